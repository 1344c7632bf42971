"""The style sheet of the HTML report: light and dark, wide and narrow."""

CSS = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --text: #1c2230; --soft: #5a6475;
  --line: #dfe3ea; --accent: #2f5bd7; --good: #17714a; --bad: #b3261e; --good-fill: #e2f4ea; --bad-fill: #fbe7e5;
  --mild: #8a5a00; --mild-fill: #fbf0d9; --rival: #a9b3c4; --top: #cfd6e2; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1b2029; --text: #e6e9ef; --soft: #9aa5b8;
  --line: #303846; --accent: #8aabff; --good: #6fd3a0; --bad: #ff9a91; --good-fill: #173527; --bad-fill: #402320;
  --mild: #f0c674; --mild-fill: #3a2f17; --rival: #5d6a80; --top: #3b4557; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1260px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 8px; letter-spacing: -0.01em; }
h2 { font-size: 1.3rem; margin: 0 0 8px; overflow-wrap: anywhere; }
p { margin: 0 0 12px; max-width: 80ch; overflow-wrap: anywhere; }
a { color: var(--accent); }
.lead { font-size: 1.1rem; color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 22px; margin: 20px 0; }
.note { border-left: 4px solid var(--accent); padding: 6px 14px; margin: 10px 0; max-width: none;
  background: var(--card); }
.facts { columns: 2 380px; column-gap: 40px; } .facts > div { margin-bottom: 22px; }
h2.minor { font-size: 1rem; margin: 0 0 4px; color: var(--soft); font-weight: 600; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(264px, 1fr)); gap: 20px 16px; }
.glance { color: var(--text); text-decoration: none; font-size: 0.9rem; overflow-wrap: anywhere; }
.glance:hover { color: var(--accent); } .thumbnails { display: flex; gap: 4px; margin-bottom: 4px; }
.thumbnails img { width: 84px; height: 84px; object-fit: cover; border-radius: 4px; background: var(--line); }
dl { display: grid; grid-template-columns: minmax(0, max-content) minmax(0, 1fr); gap: 2px 14px; margin: 0;
  font-size: 0.9rem; }
dt { color: var(--soft); overflow-wrap: anywhere; } dd { margin: 0; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; padding: 12px 14px; border-radius: 8px;
  background: var(--page); border: 1px solid var(--line); font-size: 0.87rem; }
.scroll { overflow-x: auto; margin: 0 0 16px; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 14px 7px 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line);
  vertical-align: top; }
tr > :last-child { padding-right: 0; }
th { font-weight: 600; } thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; white-space: normal; }
td.verdict { white-space: normal; text-align: left; } td.published { white-space: normal; min-width: 9em; }
.overview thead th:nth-child(2) { text-align: left; }
th[scope=row], .left { text-align: left; } tbody tr:last-child > * { border-bottom: 0; }
tbody th[scope=row] { font-weight: 400; } tr.headline > * { font-weight: 600; }
tr.headline th[scope=row] { font-weight: 700; }
.small { display: block; font-size: 0.8rem; font-weight: 400; color: var(--soft); }
.good { color: var(--good); } .bad { color: var(--bad); }
.badge { display: inline-block; padding: 1px 9px; border-radius: 99px; font-size: 0.8rem; font-weight: 600;
  white-space: nowrap; vertical-align: 1px; background: var(--page); color: var(--soft);
  border: 1px solid var(--line); }
.badge.both { background: var(--good-fill); color: var(--good); border-color: transparent; }
.badge.one { background: var(--mild-fill); color: var(--mild); border-color: transparent; }
.badge.none { background: var(--bad-fill); color: var(--bad); border-color: transparent; }
.bars { margin: 16px 0 20px; max-width: 560px; } .bars figcaption { font-size: 0.85rem; color: var(--soft); }
.bars svg { display: block; width: 100%; height: auto; }
.bars text { fill: var(--text); font-size: 13px; } .bars .label { fill: var(--soft); }
.bars .answer { fill: var(--accent); } .bars .rival { fill: var(--rival); } .bars .top { fill: var(--top); }
.bars line { stroke: var(--text); stroke-width: 1.5; } .bars .axis { stroke: var(--line); }
.strip { margin: 16px 0 0; padding: 16px 0 0; border-top: 1px solid var(--line); }
.strip > figcaption { font-size: 0.85rem; color: var(--soft); margin-bottom: 10px; overflow-wrap: anywhere; }
.pictures { display: flex; flex-wrap: wrap; gap: 12px 24px; align-items: flex-end; }
.group { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; max-width: 100%; }
.group.asked { width: fit-content; padding: 10px; border-radius: 10px; background: var(--page); }
.picture { margin: 0; max-width: 100%; font-size: 0.8rem; color: var(--soft); }
.picture img { display: block; max-width: 100%; height: auto; border-radius: 4px; margin-top: 2px;
  background: var(--line); }
.picture.answer { color: var(--accent); font-weight: 600; }
.picture.answer img { outline: 2px solid var(--accent); outline-offset: 1px; }
.pixelated { image-rendering: pixelated; }
.missing { display: grid; place-items: center; width: 128px; height: 128px; border: 1px dashed var(--line);
  border-radius: 4px; margin-top: 2px; }
.arrow { color: var(--soft); }
details { margin: 12px 0; } .strip summary { font-size: 0.85rem; margin-bottom: 10px; }
summary { cursor: pointer; color: var(--soft); }
@media (max-width: 600px) { main { padding: 20px 12px 40px; } .card { padding: 16px 14px; } h1 { font-size: 1.5rem; } }
@media print { body { background: none; } .card { break-inside: avoid; border: 0; padding: 0; } }
"""
