# Copyright (c) 2026 kubewright.cluster contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a report looks: light and dark, on a desk and on a phone, on paper.

Every colour of text has a contrast of at least 4.5 to its ground, every colour of the picture one of at least 3.

PRIVATE to the collection: this interface can change in any release.
"""

from __future__ import annotations

LIGHT = {
    "ground": "#ffffff",
    "panel": "#f5f7fa",
    "line": "#d3dae3",
    "ink": "#1b2430",
    "soft": "#55606e",
    "link": "#1f5fa8",
    "good": "#1d6f3b",
    "good-ground": "#e4f3e8",
    "bad": "#b3261e",
    "bad-ground": "#fcebe9",
    "open": "#7a5200",
    "open-ground": "#fdf1d8",
    "work": "#2c6cb5",
    "look": "#7d8da1",
    "wait": "#8a6d1f",
    "wait-ground": "#efe3bd",
    "shade": "#f1f4f8",
}
DARK = {
    "ground": "#12161c",
    "panel": "#1b212a",
    "line": "#36404d",
    "ink": "#e5eaf1",
    "soft": "#a5b0be",
    "link": "#83b6f2",
    "good": "#7fd09a",
    "good-ground": "#17311f",
    "bad": "#ff9c92",
    "bad-ground": "#3d1a18",
    "open": "#f0c26a",
    "open-ground": "#382a0f",
    "work": "#6ca9ee",
    "look": "#78879a",
    "wait": "#d3b45c",
    "wait-ground": "#443a1c",
    "shade": "#181e26",
}


def _colours(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


_RULES = """
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
  font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif;
  -webkit-text-size-adjust:100%}
main{max-width:62rem;margin:0 auto;padding:1.5rem 1.25rem 3rem}
h1{font-size:1.75rem;line-height:1.2;margin:.15rem 0 .5rem;letter-spacing:-.01em;text-wrap:balance}
h2{font-size:1.15rem;line-height:1.3;margin:2.5rem 0 .75rem;letter-spacing:-.005em}
p{margin:.4rem 0}
a{color:var(--link)}
.kicker,.soft{color:var(--soft)}
.kicker{font-size:.875rem;margin:0}
.soft{font-size:.875rem}
.state{display:inline-flex;gap:.5rem;align-items:center;padding:.2rem .75rem .2rem .6rem;border-radius:1rem;
  font-weight:600;border:1px solid currentColor;margin:.25rem 0 .5rem}
.done{color:var(--good);background:var(--good-ground)}
.failed{color:var(--bad);background:var(--bad-ground)}
.cut_off,.running{color:var(--open);background:var(--open-ground)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.75rem;padding:0;margin:1.25rem 0 0;
  list-style:none}
.facts li{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.65rem .85rem}
.facts b{display:block;font-size:1.2rem;line-height:1.3;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.facts span{color:var(--soft);font-size:.875rem;display:block}
ol.next{margin:0;padding-left:1.4rem}
ol.next li{margin:.35rem 0;overflow-wrap:anywhere}
.wrong{border:1px solid var(--line);border-left:.3rem solid var(--bad);border-radius:.35rem;padding:.6rem .9rem;
  margin:.75rem 0;background:var(--bad-ground)}
.wrong h3{margin:0;font-size:1rem}
.wrong p{white-space:pre-wrap;overflow-wrap:anywhere}
pre{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.75rem .9rem;margin:.5rem 0;
  overflow-x:auto;font:.8125rem/1.5 ui-monospace,"SFMono-Regular",Menlo,Consolas,"Liberation Mono",monospace}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600;font-size:.8125rem;white-space:nowrap}
th.group{color:var(--ink);padding-top:.9rem;white-space:normal}
td.number,th.number{text-align:right;white-space:nowrap}
.good{color:var(--good)}
.bad{color:var(--bad)}
details{margin:.75rem 0}
summary{cursor:pointer;color:var(--link)}
.timeline{display:block;overflow:visible;font-size:12.5px}
.timeline text{fill:var(--ink)}
.timeline .tick,.timeline .note{fill:var(--soft);font-weight:400}
.timeline .tick,.timeline .number{font-size:11.5px;font-variant-numeric:tabular-nums}
.timeline .name{font-weight:600}
.timeline .sign{fill:var(--bad);font-weight:700}
.timeline .grid{stroke:var(--line);stroke-width:1}
.timeline .base{stroke:var(--line);stroke-width:3}
.timeline .shade{fill:var(--shade)}
.timeline .phase{fill:var(--panel);stroke:var(--line)}
.timeline .number{fill:var(--soft);font-weight:600}
rect.work{fill:var(--work);stroke:var(--work)}
rect.look{fill:var(--look);stroke:var(--look)}
rect.wait{fill:url(#stripes);stroke:var(--wait)}
rect.open{fill:url(#dots);stroke:var(--wait)}
rect.failed,rect.lost{fill:url(#crosses);stroke:var(--bad);stroke-width:1.5}
rect.served{fill:var(--good-ground);stroke:var(--good)}
rect.gap{fill:url(#crosses);stroke:var(--bad);stroke-width:1.5}
.under{fill:var(--wait-ground)}
.over{fill:var(--wait)}
.bad-under{fill:var(--bad-ground)}
.bad-over{stroke:var(--bad);stroke-width:2.2}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;padding:0;margin:.6rem 0 0;list-style:none;color:var(--soft);
  font-size:.8125rem}
.legend svg{vertical-align:-1px;margin-right:.2rem}
.phases{columns:2;column-gap:2rem;padding-left:1.6rem;margin:.9rem 0 0;font-size:.875rem}
.phases li{break-inside:avoid;margin:.15rem 0}
.phases span{color:var(--soft);white-space:nowrap}
footer{margin-top:3rem;padding-top:1rem;border-top:1px solid var(--line);color:var(--soft);font-size:.8125rem}
@media (max-width:40rem){
  main{padding:1rem .9rem 2rem}
  h1{font-size:1.4rem}
  h2{margin-top:2rem}
  .facts{grid-template-columns:1fr 1fr;gap:.5rem}
  .facts li{padding:.5rem .65rem}
  .facts b{font-size:1.05rem}
  .phases{columns:1}
}
@media print{
  main{max-width:none;padding:0}
  pre{white-space:pre-wrap}
}
"""

STYLE = (
    f":root{{color-scheme:light dark;{_colours(LIGHT)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_colours(DARK)}}}}}"
    + " ".join(line.strip() for line in _RULES.splitlines() if line)
)
