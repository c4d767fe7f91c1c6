"""Renders templates with transformers' environment and with Bezel's interpreter (TEST_DIR/render_template)."""
import copy, datetime, json, subprocess, warnings, zipfile
from pathlib import Path

from transformers.utils import chat_template_utils

warnings.filterwarnings("ignore", category=SyntaxWarning)
NOW = datetime.datetime(2026, 7, 9, 14, 5, 6)
WHEELS = Path(__file__).parents[2] / ".venv" / "template-wheels"


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = FixedClock


def reference(template, context):
    """The text, or the exception."""
    try:
        return chat_template_utils._compile_jinja_template(template).render(**copy.deepcopy(context))
    except Exception as error:
        return error


def bezel(test_dir, rows):
    """What render_template gives for each (template, context): a dict with "text" and "runs", or "error"."""
    now = int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp())
    lines = "\n".join(json.dumps({"template": template, "context": context, "now": now}) for template, context in rows)
    run = subprocess.run([Path(test_dir) / "render_template"], input=lines, text=True, capture_output=True, check=True)
    out = [json.loads(line) for line in run.stdout.rstrip("\n").split("\n")]
    assert len(out) == len(rows), f"{len(rows)} templates gave {len(out)} results"
    return out


def wheel_templates():
    """Name and text of each chat template in the wheels that tools/setup.sh downloads."""
    out = {}
    for wheel in sorted(WHEELS.glob("*.whl")):
        with zipfile.ZipFile(wheel) as files:
            for name in sorted(files.namelist()):
                if name.endswith(".jinja"):
                    out[wheel.name.split("-")[0] + "/" + Path(name).name] = files.read(name).decode()
    assert len(out) >= 100, f"{WHEELS}: {len(out)} chat templates; run tools/setup.sh test"
    return out
