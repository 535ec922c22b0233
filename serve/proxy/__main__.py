"""`python -m serve.proxy`."""

from serve.proxy.run import main

if __name__ == "__main__":
    main()
