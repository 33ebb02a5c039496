from .request import main

main()
