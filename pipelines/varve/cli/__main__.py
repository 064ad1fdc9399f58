import sys

from varve.cli.main import main

sys.exit(main())
