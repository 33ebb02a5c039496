"""The words without which a sentence says something else: negations, quantifiers, exceptions."""

import re

_ENGLISH = """
    no not none nor neither never nothing nobody nowhere noone cannot without unless except hardly scarcely barely
    seldom rarely all every everyone everybody everything each any anyone anybody anything some someone somebody
    something several many much few fewer fewest most more less least both either only always sometimes often usually
    almost nearly entire entirely whole wholly dont doesnt didnt wont wouldnt cant couldnt shouldnt isnt arent wasnt
    werent havent hasnt hadnt mustnt neednt aint instead"""
_GERMAN = """
    nicht nichts nie niemals niemand niemanden niemandem nirgends nirgendwo kein keine keinen keinem keiner keines
    weder noch ohne außer kaum selten alle allen aller alles jede jeder jedes jeden jedem manche mancher manchen
    einige einigen mehrere viele vielen wenige wenigen beide beiden nur immer manchmal meist meistens fast mehr weniger
    mindestens höchstens"""
_FRENCH = """
    ne pas jamais rien personne aucun aucune ni sans sauf guère tout toute tous toutes chaque quelques plusieurs peu
    beaucoup seulement toujours parfois presque plus moins"""
_SPANISH = """
    nunca jamás nada nadie ningún ninguno ninguna ni tampoco sin salvo excepto apenas todo toda todos todas cada algún
    algunos algunas varios varias muchos muchas pocos pocas ambos ambas solo sólo siempre casi más menos"""
_ITALIAN = """
    non mai niente nulla nessuno nessuna nessun né neanche senza tranne appena tutto tutta tutti tutte ogni ognuno
    alcuni alcune molti molte pochi poche entrambi entrambe soltanto sempre quasi più meno"""
_PORTUGUESE = """
    não ninguém nenhum nenhuma nem sem exceto quase nunca algum alguns algumas muitos muitas poucos poucas ambas apenas
    sempre às mais"""
_DUTCH = """
    niet niets nooit niemand nergens geen noch zonder behalve nauwelijks elk elke ieder iedere sommige enkele veel
    weinig beide alleen altijd soms bijna meer minder"""
_RUSSIAN = """
    не нет ни никогда никто никого ничего нигде без кроме едва все всех всё каждый каждая каждое некоторые несколько
    много мало немногие оба обе только всегда иногда почти больше меньше"""
LOGICAL_WORDS = frozenset(
    f"{_ENGLISH} {_GERMAN} {_FRENCH} {_SPANISH} {_ITALIAN} {_PORTUGUESE} {_DUTCH} {_RUSSIAN}".split()
)
CONTRACTED = re.compile(r"(?:\w+n['\u2019]t|n['\u2019]\w+)")
"""`haven't`, `n'avait`."""
_PASSED_OVER = """
    of the a an to be been being have has had is was are were yet really ever quite very so even my your his her its our
    their this that these those by in on at for with der die das den dem des ein eine einen le la les un une de du des
    el los las il lo gli i o os as um uma het een"""
PASSED_OVER = frozenset(_PASSED_OVER.split())
"""Words between a negation or a quantifier and what it is about."""
MAX_FOLLOWERS = 4
"""Maximum words after one that are kept with it."""


def is_logical(word: str) -> bool:
    plain = word.strip("\"'()[]*_,:;.!?\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb\u00bf\u00a1").casefold()
    return plain in LOGICAL_WORDS or CONTRACTED.fullmatch(plain) is not None


def is_passed_over(word: str) -> bool:
    return word.casefold() in PASSED_OVER
