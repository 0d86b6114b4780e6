"""Make the README's pictures from what `make demo` left: python docs/images/record.py [CHROMIUM].

terminal.svg is what the last commands of the demo print; report.png, made if a Chromium is named, is the head of its
report. parity.png is not made here: it is the section on parity of the report that the README's commands for CIFAR-10
write, cut out of a screenshot in the same Chromium.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
DEMO = Path("artifacts/demo")
PROOF = DEMO / "validation.json"
COLUMNS = 100
COMMANDS = (
    f"rc-deploy build {DEMO}/model.onnx --fp16",
    f"rc-deploy validate {DEMO}/model.fp16.engine -r {DEMO}/checkpoint.pt --data digits:test --json {PROOF}",
    f"rc-deploy bench {DEMO}/checkpoint.pt {DEMO}/model.onnx --json {DEMO}/bench.json",
    f"rc-deploy report {DEMO} --output {DEMO}/report.html",
)
CHROMIUM_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1980")


def main() -> None:
    """Run the commands and write the pictures."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for command in COMMANDS:
        console.print(Text(f"$ {command}", style="bold"))
        environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
        arguments = [sys.executable, "-m", "rc_deploy", *command.split()[1:]]
        result = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=True)
        console.print(Text.from_ansi(result.stdout), soft_wrap=True)
    picture = console.export_svg(title="rc-deploy")
    # No fonts from elsewhere: the reader's own monospaced one will do.
    (HERE / "terminal.svg").write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL))
    if len(sys.argv) > 1:
        page = (DEMO / "report.html").resolve().as_uri()
        with tempfile.TemporaryDirectory() as profile:
            options = (*CHROMIUM_FLAGS, f"--user-data-dir={profile}", f"--screenshot={HERE / 'report.png'}")
            subprocess.run([sys.argv[1], *options, page], check=True)


if __name__ == "__main__":
    main()
