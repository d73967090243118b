/** A printed document as a page: reads well on a desk and in a hand, in the light and in the dark, and prints on white. */
import { markup, page, type Html } from '../html.ts';
import type { Mark, PrintedDocument, PrintedLine, Sum } from './printed-document.ts';

const style = `
.sheet{max-width:52rem;margin:0 auto}
.head{display:flex;flex-wrap:wrap;justify-content:space-between;align-items:flex-start;gap:.5rem 2rem;margin-bottom:1.2rem}
.head h1{margin:0}
.from{color:var(--soft);margin:0 0 1.6rem}.from strong{color:var(--ink);font-size:1.1rem}
.mark{border:2px solid currentColor;border-radius:6px;padding:.1rem .6rem;font-weight:700;letter-spacing:.03em;margin:.15rem 0 0}
.parties{display:flex;flex-wrap:wrap;align-items:flex-start;gap:1.2rem 2rem}.parties>*{flex:1 1 17rem;min-width:0}
.whole{white-space:nowrap}
.parties h2{font-size:.875rem;color:var(--soft);margin:0 0 .2rem}.parties p{margin:0}
dl{display:grid;grid-template-columns:auto 1fr;align-content:start;gap:.15rem .9rem;margin:0}dt{color:var(--soft)}dd{margin:0}
.lines td.number,.sums td.number{padding-right:0}.lines th.number{padding-right:0}
.lines td:first-child,.sums th{overflow-wrap:anywhere}
.beneath{display:block;color:var(--soft);font-size:.875rem;font-variant-numeric:tabular-nums}
.sums{margin:.6rem 0 0 auto;width:auto;min-width:min(26rem,100%)}.sums th,.sums td{border-bottom:0;padding-top:.25rem;padding-bottom:.25rem}
.sums th{font-size:1rem;font-weight:400;padding-right:1.5rem}.sums tr.total th,.sums tr.total td{border-top:1px solid var(--line);font-weight:700}
.notes{margin-top:1.6rem;color:var(--soft);font-size:.9rem}
.foot{margin-top:2rem;padding-top:.8rem;border-top:1px solid var(--line);color:var(--soft);font-size:.875rem}
@media print{
html{font-size:10pt}body{font-size:1rem;line-height:1.4}.sheet{max-width:none}
.lines thead{display:table-header-group}tr,.parties,.notes,.foot{break-inside:avoid}.sums{break-inside:avoid}
.mark{-webkit-print-color-adjust:exact;print-color-adjust:exact}
.stamped .sheet::before{content:attr(data-stamp);position:fixed;top:40%;left:0;right:0;text-align:center;font-size:84pt;font-weight:700;color:#000;opacity:.08;transform:rotate(-30deg)}
}
`;

const papers = { A4: 'A4', LETTER: 'letter' } as const;

/** HTML of the document, below `links` that are not printed; loads nothing and runs nothing. */
export function htmlOf(document: PrintedDocument, links: Html | null = null): string {
  const { colon } = document;
  const rows = (texts: readonly string[]): readonly Html[] =>
    texts.map((text, index) => markup`${index === 0 ? null : markup`<br>`}${text}`);
  const [buyer, ...buyerRest] = document.to.rows;
  const [seller, ...sellerRest] = document.from;
  const stamp = document.mark?.stamped === true ? document.mark.text : '';
  return page(
    document.title,
    markup`${links}<div class="${stamp === '' ? 'plain' : 'stamped'}"><article class="sheet" data-stamp="${stamp}">
${
  seller === undefined
    ? null
    : markup`<p class="from" dir="auto"><strong>${seller}</strong>${sellerRest.map((row) => markup`<br>${row}`)}</p>
`
}<header class="head"><h1>${titleOf(document)}</h1>${document.mark === null ? null : markOf(document.mark)}</header>
<div class="parties">
<dl>
${document.facts.map(
  ({ label, value }) =>
    markup`<dt>${label}${colon.trimEnd()}</dt><dd>${value}</dd>
`,
)}</dl>
<section><h2>${document.to.label}${colon.trimEnd()}</h2>
<p dir="auto">${buyer === undefined ? null : markup`<strong>${buyer}</strong>`}${buyerRest.map((row) => markup`<br>${row}`)}</p></section>
</div>
${linesTable(document)}
<table class="sums">
<tbody>
${document.sums.map(sumRow)}</tbody>
</table>
<div class="notes">
${document.notes.map(
  (note) =>
    markup`<p dir="auto">${note}</p>
`,
)}</div>
${document.footer.length === 0 ? null : markup`<footer class="foot" dir="auto">${rows(document.footer)}</footer>`}
</article></div>`,
    { language: document.language, style: `${style}${pageRule(document)}` },
  );
}

/** The number is never broken at its hyphens. */
function titleOf({ title, number }: PrintedDocument): Html {
  if (number === null || !title.endsWith(number)) return markup`${title}`;
  return markup`${title.slice(0, -number.length)}<span class="whole">${number}</span>`;
}

function markOf({ text, tone }: Mark): Html {
  return markup`<p class="mark ${tone}">${text}</p>`;
}

function linesTable({ table }: PrintedDocument): Html {
  return markup`<h2 id="lines">${table.heading}</h2>
<table class="lines" aria-labelledby="lines">
<thead><tr><th scope="col">${table.item}</th><th scope="col" class="number">${table.amount}</th></tr></thead>
<tbody>
${table.lines.map(lineRow)}</tbody>
</table>`;
}

function lineRow(line: PrintedLine): Html {
  const beneath = line.beneath.map((text) => markup` <span class="beneath">${text}</span>`);
  return markup`<tr><td>${line.description}${beneath}</td><td class="number">${line.amount}</td></tr>
`;
}

function sumRow({ label, note, amount, weight }: Sum): Html {
  const more = note === null ? null : markup` <span class="soft">${note}</span>`;
  return markup`<tr class="${weight}"><th scope="row">${label}${more}</th><td class="number">${amount}</td></tr>
`;
}

/** The paper, and on it the number of the document and of the page: in a script-free page only CSS can count them. */
function pageRule({ paper, number }: PrintedDocument): string {
  const safeNumber = (number ?? '').replaceAll(/[^A-Za-z0-9 -]/g, '');
  return `@page{size:${papers[paper]};margin:18mm 16mm 20mm;@bottom-left{content:"${safeNumber}";font:8pt sans-serif;color:#555}@bottom-right{content:counter(page) " / " counter(pages);font:8pt sans-serif;color:#555}}
`;
}
