/** Pages are text that is put together on the server; everything that is not ours is escaped by the template itself. */

/** HTML that may stand as it is. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Part = string | number | Html | readonly Html[] | null;

/** Template tag (not called `html`, which formatters would lay out anew): text between is escaped, `Html` and lists of it are not, null is nothing. */
export function markup(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  const filled = strings.map((piece, index) => piece + render(parts[index] ?? null));
  return new Html(filled.join(''));
}

function render(part: Part): string {
  if (part === null) return '';
  if (part instanceof Html) return part.text;
  if (typeof part === 'string' || typeof part === 'number') return escapeHtml(String(part));
  return part.map(({ text }) => text).join('');
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => entities[character] ?? character);
}

const style = `
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d5dae0;--paper:#fff;--shade:#f5f7f9;--link:#0550ae;--good:#116329;--bad:#a40e26}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa5b1;--line:#343b44;--paper:#0f1318;--shade:#171c23;--link:#79b8ff;--good:#56d364;--bad:#ff8b8b}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:break-word}
main{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;line-height:1.25;margin:.2rem 0 .6rem}h2{font-size:1.2rem;margin:2.2rem 0 .6rem}h3{font-size:1rem;margin:1.4rem 0 .3rem}
a{color:var(--link)}a:focus-visible,button:focus-visible,input:focus-visible,summary:focus-visible{outline:3px solid var(--link);outline-offset:2px}
p{margin:.4rem 0}.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}
code,pre{font:.875em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--shade);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;overflow-x:auto;white-space:pre-wrap}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.45rem .7rem .45rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft);font-size:.875rem}.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
ul{padding-left:1.2rem;margin:.4rem 0}
form{margin:1rem 0}label{display:block;font-weight:600;margin-bottom:.3rem}
input{font:inherit;width:100%;max-width:28rem;padding:.5rem .6rem;border:1px solid var(--soft);border-radius:6px;background:var(--paper);color:var(--ink)}
button{font:inherit;font-weight:600;margin-top:.6rem;padding:.5rem 1.1rem;border:1px solid var(--link);border-radius:6px;background:var(--link);color:var(--paper);cursor:pointer}
nav a{margin-right:1rem;display:inline-block;padding:.2rem 0}
tr.total th,tr.total td{font-weight:700;color:var(--ink)}
@media print{:root{color-scheme:light;--ink:#000;--soft:#333;--line:#999;--paper:#fff;--shade:#fff}nav,.screen{display:none}main{padding:0;max-width:none}}
`;

/** A whole page; `style` is added to that of all pages. */
export function page(
  title: string,
  body: Html,
  more: { readonly language?: string; readonly style?: string } = {},
): string {
  return `<!doctype html>
<html lang="${escapeHtml(more.language ?? 'en')}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<style>${style}${more.style ?? ''}</style>
</head>
<body>
<main>
${body.text.trim()}
</main>
</body>
</html>
`;
}
