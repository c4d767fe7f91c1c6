#include "bezel/report/html_style.h"

namespace bezel::report {

std::string_view style_sheet() {
  return R"css(
:root{color-scheme:light dark;--bg:#f7f6f3;--card:#fffefc;--ink:#1d1f24;--soft:#5f636d;--rule:#e2e0d9;--main:#2b5fc7;
--raw:#a9bfe8;--held:#bf5a13;--good:#2f7a4d;--bad:#b3261e;--h0:#eeece6;--h1:#fbe6d4;--h2:#f7c9a3;--h3:#ee9d63;--h4:#d66f30;
--h5:#a5441a;--h6:#65240d}
@media (prefers-color-scheme:dark){:root{--bg:#121316;--card:#1a1c20;--ink:#e7e7ea;--soft:#a0a4ae;--rule:#2f3239;
--main:#86aaf8;--raw:#3b4d78;--held:#f0a160;--good:#7cc79a;--bad:#f2867f;--h0:#26282d;--h1:#3b2c24;--h2:#5d3821;--h3:#8d4a20;
--h4:#c5662b;--h5:#ee9a63;--h6:#fde0c8}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
-webkit-text-size-adjust:100%}
main{max-width:70rem;margin:0 auto;padding:2.5rem 1.5rem 4rem}
header{display:flex;flex-wrap:wrap;gap:.4rem 1rem;align-items:baseline;margin-bottom:.4rem}
h1{font-size:1.5rem;line-height:1.25;margin:0;font-weight:650;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2.75rem 0 .9rem;font-weight:650;padding-bottom:.4rem;border-bottom:1px solid var(--rule)}
h3{font-size:.95rem;margin:1.6rem 0 .6rem;font-weight:600}
h3::first-letter{text-transform:uppercase}
p{margin:.4rem 0;max-width:44rem}
.lead,.sub{color:var(--soft)}
.lead{max-width:52rem}
.sub{overflow-wrap:anywhere;max-width:none}
.state{font-size:.8rem;font-weight:600;padding:.1rem .6rem;border-radius:1rem;border:1px solid currentColor;color:var(--main);
white-space:nowrap}
.state.done{color:var(--good)}.state.failed,.state.stopped{color:var(--bad)}
.problem{color:var(--bad);overflow-wrap:anywhere;max-width:none}
.bar{height:4px;background:var(--rule);border-radius:2px;margin:1rem 0 0;overflow:hidden}
.bar i{display:block;height:100%;background:var(--main)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.4rem,1fr));gap:.75rem;margin:1.5rem 0 0}
.tiles div,.chart{background:var(--card);border:1px solid var(--rule);border-radius:8px}
.tiles div{padding:.75rem .9rem}
.tiles dt{color:var(--soft);font-size:.8rem}
.tiles dd{margin:.1rem 0 0;font-size:1.2rem;font-weight:600;line-height:1.3;white-space:nowrap;font-variant-numeric:tabular-nums}
.tiles small{display:block;white-space:normal;font-size:.8rem;font-weight:400;color:var(--soft);overflow-wrap:anywhere}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:.75rem}
figure{margin:0}
.chart{padding:.9rem 1rem .7rem .6rem;break-inside:avoid;min-width:0}
.chart.wide{grid-column:1/-1}
.chart figcaption{display:flex;flex-wrap:wrap;gap:0 .6rem;align-items:baseline;padding-left:.4rem;min-height:1.6rem}
.name{font-weight:600}
.unit{color:var(--soft);font-size:.8rem}
output{margin-left:auto;font-size:.8rem;color:var(--soft);font-variant-numeric:tabular-nums}
.legend,.scale{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1rem;margin:.1rem 0 .3rem;padding:0 0 0 .4rem;
font-size:.8rem;color:var(--soft)}
.legend{min-height:1.2rem}
.legend li::before{content:"";display:inline-block;width:1rem;height:0;border-top:2.5px solid var(--main);vertical-align:middle;
margin-right:.4rem}
.legend .raw::before{border-color:var(--raw)}.legend .held::before{border-color:var(--held)}
.frame{display:grid;grid-template-columns:3.6rem minmax(0,1fr);grid-template-rows:10.5rem 1.5rem;margin-top:.9rem}
.wide .frame{grid-template-rows:14rem 1.5rem}
.y,.x{position:relative;font-size:.75rem;color:var(--soft);font-variant-numeric:tabular-nums}
.y span{position:absolute;right:.5rem;transform:translateY(50%);line-height:1;white-space:nowrap}
.x span{position:absolute;top:.35rem;transform:translateX(-50%);line-height:1;white-space:nowrap}
.x .last{transform:translateX(-100%)}.x .first{transform:none}
.corner{font-size:.75rem;color:var(--soft);text-align:right;padding:.35rem .5rem 0 0;line-height:1}
.plot{position:relative;touch-action:pan-y}
.plot svg{display:block;position:absolute;inset:0;width:100%;height:100%;overflow:visible}
.plot i{position:absolute;top:0;bottom:0;width:0;border-left:1px solid var(--soft);opacity:0;pointer-events:none}
path{fill:none;vector-effect:non-scaling-stroke}
.grid{stroke:var(--rule);stroke-width:1}
.line{stroke:var(--main);stroke-width:2;stroke-linejoin:round}
.line.raw{stroke:var(--raw);stroke-width:1.25}
.line.held{stroke:var(--held)}
.dots{stroke:var(--main);stroke-width:7;stroke-linecap:round}
.dots.held{stroke:var(--held)}.dots.raw{stroke:var(--raw)}
.keys{display:flex;flex-wrap:wrap;gap:.5rem 2rem;align-items:center;margin-top:.75rem}
.scale{padding:0;margin:0;align-items:center}
.scale i{display:inline-block;width:.85rem;height:.85rem;margin-right:.35rem;vertical-align:-.1rem;border-radius:2px}
.towers{display:flex;flex-wrap:wrap;gap:0 3.5rem}.towers>div{min-width:0}
.maps{display:flex;flex-wrap:wrap;gap:1rem 1.75rem}
.maps figure{min-width:0;break-inside:avoid}
.maps figcaption{font-size:.8rem;color:var(--soft)}
.scroll{overflow-x:auto;max-width:100%}
svg text{fill:var(--soft);font-size:11px;dominant-baseline:central}
.heat{display:block}
.heat .layer,.key .left{text-anchor:end}
.heat .column{text-anchor:start}
.h0{fill:var(--h0);background:var(--h0)}.h1{fill:var(--h1);background:var(--h1)}.h2{fill:var(--h2);background:var(--h2)}
.h3{fill:var(--h3);background:var(--h3)}.h4{fill:var(--h4);background:var(--h4)}.h5{fill:var(--h5);background:var(--h5)}
.h6{fill:var(--h6);background:var(--h6)}
table{border-collapse:collapse;font-size:.87rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:1.25rem 0 .4rem}
th{color:var(--soft);font-weight:500;text-align:left}
th,td{padding:.3rem 1.4rem .3rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
.n{text-align:right;white-space:nowrap}
.figures td:first-child{overflow-wrap:anywhere}
.pairs{table-layout:fixed;width:100%;max-width:54rem}
.pairs th{width:14rem}
.pairs td{overflow-wrap:anywhere}
code,.pairs td{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:.82rem}
details{margin-top:.6rem}
summary{cursor:pointer;color:var(--soft);font-size:.87rem}
.answers{display:grid;gap:.75rem}
.answers article{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:.8rem 1rem;break-inside:avoid}
.answers dl{display:grid;grid-template-columns:5rem minmax(0,1fr);gap:.35rem 1rem;margin:0}
.answers dt{color:var(--soft);font-size:.8rem;padding-top:.1rem}
.answers dd,.both p{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
.both{display:grid;grid-template-columns:1fr 1fr;gap:0 1.5rem;margin-top:.7rem;padding-top:.6rem;border-top:1px solid var(--rule)}
.both div{min-width:0}
h4{margin:0;font-size:.8rem;font-weight:400;color:var(--soft)}
.right h4{color:var(--good)}.both .none,.source{color:var(--soft)}
.source{font-size:.75rem;margin:.5rem 0 0;overflow-wrap:anywhere;max-width:none}
.notes{padding-left:1.2rem;margin:1rem 0 0;color:var(--soft);max-width:54rem}
.notes li{overflow-wrap:anywhere}
footer{margin-top:3rem;color:var(--soft);font-size:.8rem}
@media (max-width:40rem){main{padding:1.5rem .9rem 3rem}.tiles{grid-template-columns:1fr 1fr}.tiles dd{font-size:1.1rem}
th,td{padding-right:.7rem}.chart{padding-right:.8rem}.frame{grid-template-columns:3.1rem minmax(0,1fr)}.pairs th{width:9.5rem}
.answers dl,.both{grid-template-columns:1fr;gap:0}.answers dd,.both p{margin-bottom:.5rem}}
@media print{:root{color-scheme:light;--bg:#fff;--card:#fff;--ink:#111;--soft:#444;--rule:#ccc;--main:#2b5fc7;--raw:#a9bfe8;
--held:#bf5a13;--good:#2f7a4d;--bad:#b3261e;--h0:#eeece6;--h1:#fbe6d4;--h2:#f7c9a3;--h3:#ee9d63;--h4:#d66f30;--h5:#a5441a;
--h6:#65240d}body{font-size:12px}main{padding:0;max-width:none}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}.charts{grid-template-columns:1fr 1fr}
h2,h3{break-after:avoid}summary{display:none}.scroll{overflow:visible}}
)css";
}

std::string_view page_script() {
  return R"js(
for (const plot of document.querySelectorAll(".plot")) {
  const rows = JSON.parse(plot.dataset.points);
  if (!rows.length) continue;
  const figure = plot.closest("figure"), out = figure.querySelector("output"), mark = plot.querySelector("i");
  const names = [...figure.querySelectorAll(".legend li")].map((item) => item.textContent);
  const first = rows[0][0], span = rows[rows.length - 1][0] - first || 1;
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const wanted = first + span * (event.clientX - box.left) / box.width;
    const row = rows.reduce((best, row) => Math.abs(row[0] - wanted) < Math.abs(best[0] - wanted) ? row : best);
    const parts = row.slice(1).map((value, i) => value === null ? "" : (names[i] ? names[i] + " " : "") + value);
    out.textContent = "step " + row[0] + ": " + parts.filter(Boolean).join(", ");
    mark.style.left = 100 * (row[0] - first) / span + "%";
    mark.style.opacity = 0.6;
  });
  plot.addEventListener("pointerleave", () => { out.textContent = ""; mark.style.opacity = 0; });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((item) => { item.open = true; }));
)js";
}

}  // namespace bezel::report
