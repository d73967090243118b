import assert from 'node:assert/strict';

import { routes } from '../../admin/routes.ts';
import { isProblemCode, problemTable, type ProblemCode } from '../../billing/problem.ts';
import { isJson, startAdmin, type Json, type TestAdmin } from './support.ts';

describe('admin › OpenAPI', () => {
  let admin: TestAdmin;
  let document: Json;
  before(async () => {
    admin = await startAdmin();
    const reply = await admin.call('GET', '/api/v1/openapi.json', { token: null });
    assert.equal(reply.status, 200);
    document = reply.body;
  });
  after(() => admin.stop());

  const at = (value: unknown, ...path: readonly string[]): unknown =>
    path.reduce<unknown>((node, key) => (isJson(node) ? node[key] : undefined), value);

  it('is version 3.1 and describes each route of the router once, and nothing else', () => {
    assert.equal(document['openapi'], '3.1.0');
    const described = Object.entries(at(document, 'paths') ?? {}).flatMap(([path, methods]) =>
      Object.keys(isJson(methods) ? methods : {}).map((method) => `${method} ${path}`),
    );
    const served = routes.map(({ method, path }) => `${method} /api/v1${path}`);
    assert.deepEqual(described.toSorted(), served.toSorted());
  });

  it('gives each operation a name, roles, examples, and problems with known codes', () => {
    const names = new Set<unknown>();
    for (const route of routes) {
      const operation = at(document, 'paths', `/api/v1${route.path}`, route.method);
      names.add(at(operation, 'operationId'));
      assert.deepEqual(at(operation, 'x-roles'), route.roles);
      assert.ok(String(at(operation, 'summary')).length > 5);
      const responses = at(operation, 'responses');
      assert.ok(isJson(responses));
      for (const [status, response] of Object.entries(responses)) {
        const content = at(response, 'content');
        assert.ok(isJson(content), `${route.operationId} ${status}`);
        const [type] = Object.keys(content);
        if (type === 'text/html' || type === 'application/pdf') continue;
        const example = at(content, type ?? '', 'example');
        assert.ok(isJson(example), `${route.operationId} ${status} has no example`);
        if (Number(status) < 400) {
          route.answers[Number(status)]?.schema?.parse(example);
        } else {
          assert.equal(problemTable[problemCode(example['code'])].status, Number(status));
        }
      }
      if (route.body === null) continue;
      const body = at(operation, 'requestBody', 'content', 'application/json');
      assert.ok(isJson(at(body, 'example')), `${route.operationId} has no example body`);
      assert.match(String(at(body, 'schema', '$ref')), /^#\/components\/schemas\/\w+$/);
    }
    assert.equal(names.size, routes.length);
  });

  it('has no reference that leads nowhere, and no property that is open by mistake', () => {
    const schemas = at(document, 'components', 'schemas');
    assert.ok(isJson(schemas));
    const walk = (node: unknown): void => {
      if (Array.isArray(node)) {
        for (const item of node) walk(item);
        return;
      }
      if (!isJson(node)) return;
      const ref = node['$ref'];
      if (typeof ref === 'string') {
        assert.match(ref, /^#\/components\/schemas\/\w+$/);
        assert.ok(ref.slice('#/components/schemas/'.length) in schemas, ref);
      }
      for (const inner of Object.values(node)) walk(inner);
    };
    walk(document);
    for (const [name, schema] of Object.entries(schemas)) {
      if (name === 'Problem') continue;
      const choices = at(schema, 'anyOf');
      if (Array.isArray(choices)) {
        // One of several answers: each is a schema of its own, which is looked at by itself.
        for (const choice of choices) assert.deepEqual(Object.keys(choice), ['$ref'], name);
        continue;
      }
      assert.equal(at(schema, 'type'), 'object', name);
      assert.equal(at(schema, 'additionalProperties'), false, name);
      assert.ok(!JSON.stringify(schema).includes('"$defs"'), name);
    }
  });

  it('says what a field takes', () => {
    const body = at(document, 'components', 'schemas', 'AddChargeBody', 'properties');
    assert.deepEqual(at(body, 'unit_price', 'type'), ['string', 'number']);
    assert.deepEqual(at(body, 'type', 'enum'), ['RECURRING', 'USAGE', 'ONE_TIME']);
    assert.equal(at(body, 'included_units', 'maximum'), 999_999_999_999_999);
    const required = at(document, 'components', 'schemas', 'CreatePlanBody', 'required');
    assert.deepEqual(
      new Set(Array.isArray(required) ? required : []),
      new Set(['billing_interval', 'currency', 'name']),
    );
  });

  it('is rendered at /docs without a script or anything from elsewhere', async () => {
    const docs = await admin.call('GET', '/docs', { token: null });
    assert.equal(docs.status, 200);
    assert.ok(
      !/<script|<link|<img|@import|url\(|https?:\/\//i.test(
        docs.text.replaceAll(/&[a-z]+;/g, ' ').replaceAll(/<pre>[^]*?<\/pre>/g, ''),
      ),
    );
    assert.match(docs.headers.get('content-security-policy') ?? '', /default-src 'none'/);
    for (const { operationId } of routes)
      assert.ok(docs.text.includes(`id="${operationId}"`), operationId);
    for (const code of Object.keys(problemTable))
      assert.ok(docs.text.includes(`id="${code}"`), code);
  });
});

function problemCode(value: unknown): ProblemCode {
  assert.ok(typeof value === 'string' && isProblemCode(value), String(value));
  return value;
}
