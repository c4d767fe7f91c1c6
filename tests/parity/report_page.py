"""report.html in headless Chromium: an invented long run with every section, and a run that goes on; on a screen and a phone,
light, dark and printed. Every chart is drawn, no text is cut off, lies outside its figure or covers another label, text
stands out from its background, the pointer is answered, nothing is logged and nothing but the file itself is loaded.

    report_page.py BEZEL_FOLDER TEST_FOLDER [SCREENSHOT.png]
"""
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from _browser import Browser, find_chromium

SAMPLE = Path(sys.argv[2]) / "sample_report"
CHARTS = ["loss", "rate", "norm", "speed", "memory"]

# Run inside the page; returns what is wrong, in words, and what was counted.
LOOK = r"""
(() => {
  const wrong = [], seen = {texts: 0, contrasts: 0};
  const name = (e) => e.tagName + "." + (e.getAttribute("class") || "") + " '" + e.textContent.trim().slice(0, 40) + "'";
  const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  const apart = (a, b) => a.right <= b.left + 0.5 || b.right <= a.left + 0.5 || a.bottom <= b.top + 0.5 || b.bottom <= a.top + 0.5;
  const inside = (a, b) => a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
  const channels = (text) => { const m = text.match(/[\d.]+/g).map(Number); return {rgb: m.slice(0, 3), alpha: m.length > 3 ? m[3] : 1}; };
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
                           return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = channels(getComputedStyle(e).backgroundColor);
                          if (c.alpha === 1) return c.rgb; } return [255, 255, 255]; };
  if (document.documentElement.scrollWidth > innerWidth) wrong.push("the page is wider than its window");
  for (const e of document.querySelectorAll("body *")) {
    if (["SCRIPT", "STYLE", "TITLE", "title"].includes(e.tagName) || !own(e)) continue;
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    if (!box.width || style.visibility === "hidden" || e.closest("details:not([open]) > :not(summary)")) continue;
    seen.texts++;
    // What may be scrolled sideways is not lost.
    if (!e.closest(".scroll") && (box.left < -0.5 || box.right > innerWidth + 0.5)) wrong.push("outside the window: " + name(e));
    if (style.overflow !== "visible" && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1)) wrong.push("cut off: " + name(e));
    const svg = e.closest("svg");
    if (svg && svg !== e && !inside(box, svg.getBoundingClientRect())) wrong.push("outside its drawing: " + name(e));
    const holder = e.closest(".chart, .tiles > div, article");
    if (holder && !inside(box, holder.getBoundingClientRect())) wrong.push("outside its card: " + name(e));
    const a = light(channels(svg && svg !== e ? style.fill : style.color).rgb), b = light(ground(e));
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen.contrasts++;
    if (contrast < 4.5) wrong.push("contrast " + contrast.toFixed(2) + ": " + name(e));
  }
  for (const labels of document.querySelectorAll(".x, .y, .heat")) {
    const boxes = [...labels.querySelectorAll("span, text")].map((e) => [e, e.getBoundingClientRect()]);
    boxes.forEach(([e, a], i) => boxes.slice(i + 1).forEach(([f, b]) => { if (!apart(a, b)) wrong.push("one over the other: " + name(e) + ", " + name(f)); }));
  }
  for (const chart of document.querySelectorAll(".chart")) {
    const heads = [...chart.querySelectorAll("figcaption *, .legend li")].filter((e) => e.textContent).map((e) => [e, e.getBoundingClientRect()]);
    for (const e of chart.querySelectorAll(".y span")) for (const [f, box] of heads) if (!apart(e.getBoundingClientRect(), box)) wrong.push("over the heading: " + name(e) + ", " + name(f));
  }
  for (const plot of document.querySelectorAll(".plot")) {
    const box = plot.getBoundingClientRect();
    for (const e of plot.closest(".frame").querySelectorAll(".y span, .x span, .corner")) if (!apart(e.getBoundingClientRect(), box)) wrong.push("over the curve: " + name(e));
  }
  seen.charts = [...document.querySelectorAll(".chart")].filter((c) => {
    const path = c.querySelector(".line"), box = path && path.getBoundingClientRect(), plot = c.querySelector(".plot").getBoundingClientRect();
    return box && box.width > 0.9 * plot.width && plot.height > 100 && c.querySelectorAll(".y span").length >= 3 && c.querySelectorAll(".x span").length >= 2;
  }).map((c) => c.id.replace("chart-", ""));
  seen.maps = document.querySelectorAll(".heat").length;
  seen.squares = document.querySelectorAll(".heat rect").length;
  seen.colors = new Set([...document.querySelectorAll(".heat rect")].map((r) => getComputedStyle(r).fill)).size;
  seen.background = getComputedStyle(document.body).backgroundColor;
  return {wrong, seen};
})()
"""


def look(page, path, what, **how):
    page.open(path, **how)
    found = page.evaluate(LOOK)
    assert not found["wrong"], (what, how, found["wrong"][:12])
    assert page.logs == [], (what, page.logs)
    assert page.requests == [f"file://{path}"], (what, page.requests)
    seen = found["seen"]
    assert sorted(seen["charts"]) == sorted(CHARTS), (what, how, seen)
    assert seen["texts"] > 100 and seen["contrasts"] > 100, seen
    return seen


def check_answers(page, path, running):
    """Before and after stand side by side, on a phone one below the other."""
    tops = "[...document.querySelectorAll('.both')].map((b) => [...b.children].map((c) => c.getBoundingClientRect().top))"
    for width, is_wide in ((1200, True), (390, False)):
        page.open(path, width=width)
        pairs = page.evaluate(tops)
        assert len(pairs) == 2 and all((before == after) == is_wide for before, after in pairs), (width, pairs)
    texts = page.evaluate("[...document.querySelectorAll('#predictions article')].map((a) => a.textContent)")
    assert "asked[image] What does the soup cost?" in texts[0] and "after (as wanted)Six euros fifty." in texts[0], texts
    page.open(running)
    texts = page.evaluate("[...document.querySelectorAll('#predictions .both')].map((a) => a.textContent)")
    assert all(text.endswith("afternot yet") for text in texts), texts


def check_pointer(page, path):
    page.open(path)
    box = page.evaluate("(() => { const b = document.querySelector('#chart-loss .plot').getBoundingClientRect(); "
                        "return [b.left + b.width / 2, b.top + 20]; })()")
    page.move_to(*box)
    reading = page.evaluate("document.querySelector('#chart-loss output').textContent")
    match = re.match(r"step (\d+): ", reading)
    assert match and abs(int(match[1]) - 600) < 12, reading
    assert page.logs == [], page.logs


def check_print(page, path):
    seen = look(page, path, "printed", width=800, media="print", scheme="dark")
    assert seen["background"] == "rgb(255, 255, 255)", seen
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    pdf = page.pdf()
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert pdf.startswith(b"%PDF") and 2 <= pages <= 12, pages


def main():
    if find_chromium() is None:
        print("chromium is not installed: skipped")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as name, Browser() as page:
        done, running = Path(name) / "done.html", Path(name) / "running.html"
        subprocess.run([SAMPLE, done], check=True)
        subprocess.run([SAMPLE, running, "running"], check=True)
        backgrounds = set()
        for width in (1200, 390):
            for scheme in ("light", "dark"):
                seen = look(page, done, "finished run", width=width, scheme=scheme)
                assert (seen["maps"], seen["squares"], seen["colors"]) == (4, 2 * 4 * (16 * 7 + 12 * 10), 7), seen
                backgrounds.add(seen["background"])
                print(f"{width} px, {scheme}: {json.dumps(seen)}")
        assert len(backgrounds) == 2, backgrounds
        assert look(page, running, "run that goes on", width=390)["maps"] == 2
        check_answers(page, done, running)
        check_pointer(page, done)
        check_print(page, done)
        if len(sys.argv) > 3:
            page.open(done)
            page.screenshot(sys.argv[3], x=0, y=0, width=1200, height=2060)


if __name__ == "__main__":
    main()
