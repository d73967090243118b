/** The reference at /docs: the OpenAPI document as one page of our own, without a script or anything from elsewhere. */
import { problemCodes, problemTable } from '../billing/problem.ts';
import { markup, page, type Html } from './html.ts';
import type { Route } from './route.ts';

type Json = Readonly<Record<string, unknown>>;

/** The page for a document that `openApiDocument` made of `routes`. */
export function docsPage(routes: readonly Route[], document: Json): string {
  const byTag = Map.groupBy(routes, ({ tag }) => tag);
  return page(
    'Tollbook admin API',
    markup`<nav><a href="/">Home</a><a href="/api/v1/openapi.json">OpenAPI 3.1</a></nav>
      <h1>Tollbook admin API</h1>
      <p>
        Send <code>Authorization: Bearer &lt;token&gt;</code>, or the cookie
        <code>access_token</code> with <code>Content-Type: application/json</code>. A
        <code>lookup_id</code> may stand wherever an id may. Amounts, prices, credits and quantities
        are answered as strings. Every POST takes an <code>Idempotency-Key</code>. Lists take
        <code>limit</code> (1–100) and <code>cursor</code>.
      </p>
      ${quickstart}
      <h2>Contents</h2>
      <ul>
        ${[...byTag.keys()].map((tag) => markup`<li><a href="#${anchor(tag)}">${tag}</a></li> `)}
        <li><a href="#problems">Problem codes</a></li>
      </ul>
      ${[...byTag].map(
        ([tag, list]) =>
          markup`<h2 id="${anchor(tag)}">${tag}</h2>
            ${list.map((route) => operationPart(route, document))}`,
      )}
      <h2 id="problems">Problem codes</h2>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Code</th>
              <th scope="col">Status</th>
              <th scope="col">What it means, and what to do</th>
            </tr>
          </thead>
          <tbody>
            ${problemCodes.map((code) => {
              const { status, title, doc, retryable } = problemTable[code];
              return markup`<tr id="${code}">
                <td><code>${code}</code></td>
                <td>${status}</td>
                <td>${title}. ${doc}${retryable ? ' Retryable.' : ''}</td>
              </tr> `;
            })}
          </tbody>
        </table>
      </div>`,
  );
}

const post = (path: string, body?: unknown): string =>
  `curl -X POST "$ADMIN_URL/api/v1${path}" -H "Authorization: Bearer $ADMIN_TOKEN"${
    body === undefined
      ? ''
      : ` \\\n  -H "Content-Type: application/json" -d '${JSON.stringify(body)}'`
  }`;

const quickstart = markup`<h2>In five calls</h2>
<pre>${[
  post('/plans', {
    name: 'Pay-as-you-go',
    lookup_id: 'my-payg',
    type: 'USAGE',
    billing_interval: 'month',
    currency: 'USD',
  }),
  post('/plans/my-payg/charges', {
    type: 'USAGE',
    meter_id: 'api_calls',
    unit_price: 0.001,
    display_name: 'API calls ($0.001 each)',
  }),
  post('/plans/my-payg/publish'),
  post('/subscribers', { name: 'Acme Inc.', lookup_id: 'acme', payment_method: 'card_ok' }),
  post('/subscriptions', { subscriber_id: 'acme', plan_id: 'my-payg' }),
].join('\n')}</pre>`;

function operationPart(route: Route, document: Json): Html {
  const operation = at(document, ['paths', `/api/v1${route.path}`, route.method]);
  const bodySchema = schemaOf(
    document,
    at(operation, ['requestBody', 'content', 'application/json', 'schema']),
  );
  const parameters = listAt(operation, 'parameters');
  return markup`<h3 id="${route.operationId}">${route.summary}</h3>
    <p>
      <code>${route.method.toUpperCase()} /api/v1${route.path}</code>
      <span class="soft">· ${route.roles.join(', ')}</span>
    </p>
    ${route.description === undefined ? null : markup`<p>${route.description}</p>`}
    <details>
      <summary>Fields, example, answers</summary>
      ${parameters.length === 0 ? null : parameterTable(parameters)}
      ${route.body === null ? null : fieldTable(document, bodySchema)}
      ${
        route.bodyExample === undefined
          ? null
          : markup`<p class="soft">Body</p>
              <pre>${json(route.bodyExample)}</pre>`
      }
      ${Object.entries(route.answers).map(
        ([status, answer]) =>
          markup`<p class="soft">${status}: ${answer.description}</p>
            ${answer.example === undefined ? null : markup`<pre>${json(answer.example)}</pre>`}`,
      )}
      ${(route.problems ?? []).length === 0 ? null : markup`<p class="soft">Problems of its own: ${(route.problems ?? []).map((code) => markup`<a href="#${code}">${code}</a> `)}</p>`}
    </details> `;
}

function parameterTable(parameters: readonly Json[]): Html {
  return markup`<div class="scroll">
    <table>
      <thead>
        <tr>
          <th scope="col">Parameter</th>
          <th scope="col">In</th>
          <th scope="col">What</th>
        </tr>
      </thead>
      <tbody>
        ${parameters.map(
          (parameter) =>
            markup`<tr>
              <td><code>${word(parameter['name'])}</code></td>
              <td>${word(parameter['in'])}</td>
              <td>
                ${word(parameter['description']) || word(at(parameter, ['schema'])['description'])}
              </td>
            </tr> `,
        )}
      </tbody>
    </table>
  </div>`;
}

function fieldTable(document: Json, schema: Json): Html | null {
  const properties = at(schema, ['properties']);
  const required = schema['required'];
  const names = Object.keys(properties);
  if (names.length === 0) return null;
  return markup`<div class="scroll">
    <table>
      <thead>
        <tr>
          <th scope="col">Field</th>
          <th scope="col">Takes</th>
          <th scope="col">What</th>
        </tr>
      </thead>
      <tbody>
        ${names.map((name) => {
          const property = schemaOf(document, at(properties, [name]));
          const isRequired = Array.isArray(required) && required.includes(name);
          return markup`<tr>
            <td>
              <code>${name}</code>${isRequired ? null : markup` <span class="soft">optional</span>`}
            </td>
            <td>${takes(property)}</td>
            <td>${word(property['description'])}</td>
          </tr> `;
        })}
      </tbody>
    </table>
  </div>`;
}

function takes(schema: Json): string {
  const choices = schema['enum'];
  if (Array.isArray(choices)) return choices.map((choice) => String(choice)).join(' | ');
  const options = schema['anyOf'];
  if (Array.isArray(options)) {
    return options.map((option) => (isObject(option) ? takes(option) : '')).join(' or ');
  }
  const type = schema['type'];
  if (Array.isArray(type)) return type.join(' or ');
  return type === 'object'
    ? `object {${Object.keys(at(schema, ['properties'])).join(', ')}}`
    : word(type);
}

function schemaOf(document: Json, schema: Json): Json {
  const ref = schema['$ref'];
  if (typeof ref !== 'string') return schema;
  return at(document, ref.replace(/^#\//, '').split('/'));
}

function at(value: unknown, path: readonly string[]): Json {
  const found = path.reduce<unknown>(
    (node, key) => (isObject(node) ? node[key] : undefined),
    value,
  );
  return isObject(found) ? found : {};
}

function listAt(value: Json, key: string): readonly Json[] {
  const list = value[key];
  return Array.isArray(list) ? list.filter((item) => isObject(item)) : [];
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function word(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function json(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

function anchor(tag: string): string {
  return `tag-${tag.toLowerCase().replaceAll(/[^a-z]+/g, '-')}`;
}
