"""The entry point, of `python -m twcodec` too. Until the command line is imported, Ctrl-C ends the process plainly."""

import os
import signal

if "OMP_WAIT_POLICY" not in os.environ:
    # torch's threads spin while they wait. Two processes that share the cores then wait for each other's spinning:
    # 4.4 s a picture instead of 0.9 s for two at once on two cores. Read by libgomp when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Run the command line. Never returns."""
    from twcodec.cli.main import run

    run()


if __name__ == "__main__":
    main()
