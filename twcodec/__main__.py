"""The entry point, of `python -m twcodec` too. Until the command line is imported, Ctrl-C ends the process plainly."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Run the command line. Never returns."""
    from twcodec.cli.main import run

    run()


if __name__ == "__main__":
    main()
