from onebasin.apps.cli import main

main()
