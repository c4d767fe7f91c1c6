# The two commands: `make demo` and `make test`. Each sets up what is missing first.
.PHONY: setup
