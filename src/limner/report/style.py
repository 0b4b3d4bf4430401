"""The look of `report.html`: quiet, light and dark, from a telephone to a wide screen."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fcfbf9; --raised: #ffffff; --ink: #1f2023; --soft: #5d6068; --faint: #e6e3dd; --hair: #eeebe6;
  --accent: #1f5fa8; --before: #6f737b; --good: #1a7a4c; --bad: #b3392f; --warn: #fff4d9; --warn-ink: #6a4a00;
  --c0: #1f5fa8; --c1: #c05c12; --c2: #17795e; --c3: #8d4aa8; --c4: #94750a; --c5: #b83a63;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16171a; --raised: #1d1f23; --ink: #e9e7e3; --soft: #a3a6ae; --faint: #34373d; --hair: #282a2f;
    --accent: #7db4f2; --before: #9a9ea7; --good: #63c795; --bad: #f08b80; --warn: #3a3016; --warn-ink: #f3d999;
    --c0: #7db4f2; --c1: #f0a063; --c2: #5fcaa8; --c3: #cb9be6; --c4: #dcbc55; --c5: #f08cab;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main, header, footer { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 56px; }
h1, h2, .figure { font-family: "Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", Georgia, serif; }
h1 { font-size: 2.3rem; font-weight: 500; line-height: 1.15; margin: 0; letter-spacing: -0.01em;
  overflow-wrap: anywhere; }
h2 { font-size: 1.5rem; font-weight: 500; margin: 0 0 4px; }
h3 { font-size: 1rem; font-weight: 600; margin: 0; }
p { margin: 0; }
.eyebrow { color: var(--soft); font-size: .82rem; letter-spacing: .08em; text-transform: uppercase;
  margin-bottom: 8px; }
.lead { font-size: 1.15rem; max-width: 46em; margin-top: 14px; }
.soft, figcaption p, .note { color: var(--soft); font-size: .88rem; }
.soft { max-width: 52em; }
section { padding-top: 52px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 1px; margin-top: 32px;
  background: var(--faint); border: 1px solid var(--faint); border-radius: 10px; overflow: hidden; }
.figures div { background: var(--raised); padding: 16px 20px; }
.figures dt { color: var(--soft); font-size: .82rem; }
.figures dd { margin: 2px 0 0; font-size: .82rem; color: var(--soft); }
.figure { display: block; color: var(--ink); font-size: 1.75rem; line-height: 1.25; }
.notices { margin: 24px 0 0; padding: 12px 20px 12px 36px; background: var(--warn); color: var(--warn-ink);
  border-radius: 10px; }
.table { overflow-x: auto; margin-top: 16px; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: right; padding: 10px 0 10px 24px; border-bottom: 1px solid var(--hair); vertical-align: top;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; min-width: 10em; }
thead th { color: var(--soft); font-weight: 500; font-size: .82rem; border-bottom-color: var(--faint);
  vertical-align: bottom; }
tbody th { font-weight: 500; }
tbody th small { display: block; color: var(--soft); font-weight: 400; max-width: 30em; }
td small { display: block; color: var(--soft); font-size: .8rem; }
tr.part th { font-weight: 400; padding-left: 16px; }
td.up { color: var(--good); } td.down { color: var(--bad); }
.strip { width: 220px; height: 30px; display: block; margin-left: auto; overflow: visible; }
.strip .axis { stroke: var(--faint); }
.strip line { stroke-width: 2; stroke-linecap: round; }
.strip .before line { stroke: var(--before); } .strip .before circle { fill: var(--paper); stroke: var(--before);
  stroke-width: 2; }
.strip .after line { stroke: var(--accent); } .strip .after circle { fill: var(--accent); }
.gallery { margin-top: 28px; }
.pairs { list-style: none; margin: 14px 0 0; padding: 0; display: grid; gap: 26px 22px;
  grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 4px 6px; align-content: start; }
.pair p { grid-column: 1 / -1; font-size: .88rem; line-height: 1.4; overflow-wrap: anywhere; }
.pair p span, .pair p small { color: var(--soft); }
.pair p small { display: block; }
.pair figure { margin: 0; }
.pair img { display: block; width: 100%; height: auto; border-radius: 5px; background: var(--faint); }
.pair img.small { image-rendering: pixelated; }
.pair img.film { display: none; margin-top: 3px; }
.pair figcaption { font-size: .78rem; color: var(--soft); padding-top: 3px; display: flex; gap: 8px; }
.yes { color: var(--good); } .no { color: var(--bad); }
.charts { display: grid; gap: 36px 32px; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr));
  margin-top: 20px; }
.chart { margin: 0; display: flex; flex-direction: column; justify-content: space-between; max-width: 540px; }
.chart h3 { display: flex; justify-content: space-between; gap: 12px; }
.chart h3 b { font-weight: 500; color: var(--c0); }
.chart svg { width: 100%; height: auto; margin-top: 8px; overflow: visible; }
.chart text { fill: var(--soft); font-size: 10.5px; }
.rule { stroke: var(--hair); } .reference { stroke: var(--soft); stroke-dasharray: 4 4; }
.line polyline { fill: none; stroke: var(--c); stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; }
.line circle { fill: var(--c); } .line .band { fill: var(--c); opacity: .14; }
.hit { fill: var(--ink); opacity: 0; } .hit:hover { opacity: .07; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 6px 0 0; padding: 0;
  font-size: .85rem; }
.legend b { font-weight: 500; color: var(--soft); }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 3px; background: var(--c);
  margin-right: 6px; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); }
.c3 { --c: var(--c3); } .c4 { --c: var(--c4); } .c5 { --c: var(--c5); }
.bar { display: flex; gap: 2px; height: 14px; margin-top: 18px; border-radius: 4px; overflow: hidden; }
.bar i { background: var(--c); min-width: 2px; }
.columns { display: grid; grid-template-columns: minmax(8em, max-content) 1fr; gap: 8px 24px; font-size: .92rem;
  margin: 14px 0 0; }
.columns dt { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .85rem;
  overflow-wrap: anywhere; }
.columns dd { margin: 0; color: var(--soft); max-width: 46em; }
details { border-top: 1px solid var(--faint); padding: 14px 0; }
details:last-child { border-bottom: 1px solid var(--faint); }
summary { cursor: pointer; font-weight: 500; }
summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 4px; border-radius: 2px; }
pre { overflow-x: auto; font: .83rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; margin: 12px 0 0; }
footer { padding-top: 48px; padding-bottom: 48px; color: var(--soft); font-size: .85rem; }
@media (max-width: 860px) { .strip-cell { display: none; } }
@media (max-width: 560px) {
  main, header, footer { padding-left: 16px; padding-right: 16px; }
  header { padding-top: 32px; }
  h1 { font-size: 1.8rem; } .lead { font-size: 1.05rem; } .figures { grid-template-columns: 1fr 1fr; }
  .figures div { padding: 12px 14px; } .figure { font-size: 1.4rem; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tbody, tbody tr { display: block; } tbody tr { padding: 12px 0; border-bottom: 1px solid var(--hair); }
  tbody th, tbody td, tr.part th { display: block; border: 0; padding: 2px 0; }
  tbody td { display: grid; grid-template-columns: 4em 1fr 9em; gap: 8px; align-items: baseline; }
  .pairs { grid-template-columns: 1fr 1fr; gap: 20px 14px; }
  tbody td::before { text-align: left; content: attr(data-label); color: var(--soft); font-size: .85rem; }
  td.strip-cell { display: none; }
  .columns { grid-template-columns: 1fr; gap: 0; } .columns dd { margin-bottom: 10px; }
}
@media print { details { display: block; } .pair, .chart { break-inside: avoid; } .pair img.film { display: block; } }
"""
