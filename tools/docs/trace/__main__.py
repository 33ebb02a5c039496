from tools.docs.trace.request import main

main()
