"""Plugins built by hand, as the README says."""
import subprocess

from . import place

FLAGS = ["-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-Bsymbolic-functions"]


def build(folder, name, source, flags=(), include=None):
    """Writes NAME.c, compiles it to NAME.so, both in `folder`, and returns the latter's path."""
    text = folder / f"{name}.c"
    made = folder / f"{name}.so"
    text.write_text(source)
    command = ["cc", *FLAGS, *flags, f"-I{include or place.ROOT / 'include'}", text, "-o", made]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return made


def answering(text, path="/it", name="it", extra=""):
    """The source of a plugin that answers GET `path` with `text`."""
    return f"""
#include <weft.h>
{extra}
static weft_status it(weft_ctx *ctx, void *self)
{{
    (void)self;
    return weft_reply_text(ctx, 200, "{text}");
}}

static weft_status init(weft_host *host, void **self)
{{
    (void)self;
    return weft_route(host, "GET", "{path}", it);
}}

WEFT_PLUGIN("{name}", "1.0", init, NULL, NULL);
"""
