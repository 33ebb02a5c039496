"""Exchange ids: whoever knows one can read its figures."""

import re
from itertools import islice

from gateway.exchange.exchange import IDS_PER_READ, generate_ids


def test_ids_have_80_random_bits_and_never_come_back():
    ids = list(islice(generate_ids(), 4 * IDS_PER_READ))
    assert all(re.fullmatch(r"sf-[0-9a-f]{20}", name) for name in ids)
    assert len(set(ids)) == len(ids)
    bits = [int(name[3:], 16) for name in ids]
    for place in range(80):  # each bit is set about as often as not: 9 standard deviations of 512
        assert 368 < sum(value >> place & 1 for value in bits) < 656
