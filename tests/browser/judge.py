"""Judges the dashboard's pages as headless Chromium shows them.

    python tests/browser/judge.py PAGE ...

Each page is looked at light and dark, at the widths a widget has on a dashboard. What is demanded: nothing that was said
becomes an element or runs; every text stands out from what is behind it (WCAG 2.2, 1.4.3: 4.5 to 1); nothing is cut off;
whatever can be clicked asks for something. Before any page is believed, a fault of each kind is planted in it, and has to be
found.
"""

import contextlib
import pathlib
import sys
import tempfile

from selenium import webdriver

THEMES = {"light": "#ffffff", "dark": "#0f1b2a"}  # and CloudWatch's own background in each
WIDTHS = (1200, 820)  # all of a dashboard's 24 columns, and two thirds of them
LEAST_CONTRAST = 4.5

# What CloudWatch lets a custom widget hold at all (Amazon CloudWatch user guide, "Security and JavaScript" of custom
# widgets): no scripts, no frames, no `use` of SVG.
FORBIDDEN = ["script", "iframe", "use", "img", "link", "object", "embed", "form"]

# Everything is asked inside the page, so that it is the browser's own answer.
LOOK = """
const problems = [];
const widget = document.querySelector(".espalier");
for (const name of arguments[0]) {
  for (const _ of widget.querySelectorAll(name)) problems.push(`forbidden: there is an element <${name}>`);
}
for (const element of widget.querySelectorAll("*")) {
  for (const attribute of element.attributes) {
    if (attribute.name.startsWith("on")) problems.push(`forbidden: <${element.localName}> has ${attribute.name}`);
  }
}
if (window.obeyed) problems.push("obeyed: what was said has run");

const numbers = colour => colour.match(/[0-9.]+/g).map(Number);
const behind = element => {
  for (let at = element; at; at = at.parentElement) {
    const [red, green, blue, alpha = 1] = numbers(getComputedStyle(at).backgroundColor);
    if (alpha === 1) return [red, green, blue];
    if (alpha !== 0) problems.push(`contrast: what is behind <${element.localName}> is see-through`);
  }
  return [255, 255, 255];
};
const luminance = colour => {
  const [red, green, blue] = colour.map(one => one / 255).map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const contrast = (one, other) => {
  const [less, more] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (more + 0.05) / (less + 0.05);
};
let texts = 0;
const walk = document.createTreeWalker(widget, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const element = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || getComputedStyle(element).display === "none") continue;
  texts += 1;
  const ratio = contrast(numbers(getComputedStyle(element).color).slice(0, 3), behind(element));
  if (ratio < arguments[1]) {
    problems.push(`contrast: ${JSON.stringify(walk.currentNode.data.trim())} has ${ratio.toFixed(2)} to 1`);
  }
}
if (!texts) problems.push("empty: there is nothing to read");

if (document.documentElement.scrollWidth > innerWidth) {
  problems.push(`cut off: ${document.documentElement.scrollWidth} pixels in ${innerWidth}`);
}

for (const link of widget.querySelectorAll("a")) {
  const action = link.nextElementSibling;
  const asks = action && action.localName === "cwdb-action" && action.getAttribute("action") === "call"
    && /^arn:aws:lambda:/.test(action.getAttribute("endpoint"));
  if (!asks) { problems.push(`asks nothing: ${link.textContent}`); continue; }
  if (getComputedStyle(action).display !== "none") problems.push(`asks aloud: the question behind ${link.textContent} is shown`);
  try { JSON.parse(action.textContent); } catch (_) { problems.push(`asks nothing: ${action.textContent} is no JSON`); }
}
return { problems, texts, said: widget.innerText };
"""

# A fault of each kind: what is planted after which part of a page, and the first word of what has to be found.
PLANTED = [
    ("obeyed", '<div class="espalier {theme}">', '<svg onload="window.obeyed = 1"></svg>'),
    ("forbidden", '<div class="espalier {theme}">', "<script>1</script>"),
    ("forbidden", '<div class="espalier {theme}">', '<b onclick="1">x</b>'),
    ("contrast", '<div class="espalier {theme}">', '<p style="color:#808080">pale</p>'),
    ("cut off", '<div class="espalier {theme}">', '<p style="width:1300px">wide</p>'),
    ("asks nothing", '<div class="espalier {theme}">', "<a>nowhere</a>"),
]

# What the golden pages quote of servers, to be read as it was said.
SAID = {"fleet.html": ["<script>alert('&')</script>", "<b>"], "stack.html": ["<script>alert('&')</script>", '"<img src=x onerror=y>']}


def main(paths):
    pages = {path.name: path.read_text() for path in map(pathlib.Path, paths)}
    if missing := SAID.keys() - pages.keys():
        sys.exit(f"no page is called {', '.join(sorted(missing))}")
    problems, looks = [], 0
    with browser() as look:
        for name, page in pages.items():
            for theme in THEMES:
                problems += [f"planted in {name}, {theme}: {problem}" for problem in unfound(look, page, theme)]
                for width in WIDTHS:
                    seen = look(page, theme, width)
                    looks += 1
                    problems += [f"{name}, {theme}, {width} pixels: {problem}" for problem in seen["problems"]]
                    problems += [f"{name}: {said} is not there to read" for said in SAID.get(name, []) if said not in seen["said"]]
    for problem in dict.fromkeys(problems):
        print(problem)
    print(f"{len(pages)} pages, {looks} looks, {len(PLANTED)} planted faults each, {len(problems)} problems")
    return 1 if problems else 0


def unfound(look, page, theme):
    """The planted faults that a look does not find."""
    for kind, after, fault in PLANTED:
        after = after.format(theme=theme)
        spoilt = themed(page, theme).replace(after, after + fault, 1)
        if not any(problem.startswith(kind) for problem in look(spoilt, theme, WIDTHS[0])["problems"]):
            yield f"{fault} is not found"


def themed(page, theme):
    return page.replace('class="espalier dark"', f'class="espalier {theme}"', 1)


@contextlib.contextmanager
def browser():
    """A headless Chromium that shows a page and answers what is wrong with it."""
    options = webdriver.ChromeOptions()
    # As root, which CI is, there is no sandbox; what is shown are this repository's own pages.
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path="/usr/bin/chromedriver")
    driver = webdriver.Chrome(options=options, service=service)
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "page.html"

        def look(page, theme, width):
            style = f"<style>html {{ background: {THEMES[theme]} }} body {{ margin: 24px }}</style>"
            file.write_text(f"<!doctype html><meta charset=utf-8>{style}{themed(page, theme)}")
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False},
            )
            driver.get(file.as_uri())
            seen = driver.execute_script(LOOK, FORBIDDEN, LEAST_CONTRAST)
            complaints = [entry["message"] for entry in driver.get_log("browser")]
            seen["problems"] += [f"complaint: {complaint}" for complaint in complaints]
            return seen

        try:
            yield look
        finally:
            driver.quit()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
