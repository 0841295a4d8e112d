"""`python -m edge.tfserving_cli` is the same as `tensorflow_model_server`."""

from edge.tfserving_cli import main

if __name__ == "__main__":
    main()
