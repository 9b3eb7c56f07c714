from onebasin.cli import main

main()
