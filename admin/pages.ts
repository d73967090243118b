/** The pages for people: home, sign-in, the reference, invoices; and what a supervisor asks. */
import express, { type Express, type Request, type Response } from 'express';
import { collectDefaultMetrics, Registry } from 'prom-client';

import { isDatabaseUp } from '../store/health.ts';
import { findInvoiceRead } from '../store/invoice-reads.ts';
import type { Environment } from '../store/query.ts';
import { findTokenByDigest } from '../store/tokens.ts';
import { sendFile, sendPage } from './answer.ts';
import { cookieOf, digestOf, isSameOrigin } from './authenticate.ts';
import type { AdminDeps } from './call.ts';
import { docsPage } from './docs-page.ts';
import { htmlOf } from './documents/html-document.ts';
import { pdfAnswer } from './documents/pdf-answer.ts';
import { readPrintedInvoice } from './documents/read.ts';
import { homePage, readHome, type HomeView } from './home-page.ts';
import { markup, page } from './html.ts';
import { openApiDocument } from './openapi.ts';
import { readers } from './route.ts';
import { routes } from './routes.ts';

const READY_MS = 2_000;
const SESSION_S = 12 * 60 * 60;

/** Adds everything beside the API to `app`. */
export function addPages(app: Express, deps: AdminDeps): void {
  const docs = docsPage(routes, openApiDocument(routes));
  app.get('/docs', (_request, response) => sendPage(response, 200, docs));
  app.get('/', async (request, response) => {
    sendPage(response, 200, await homePage(deps, await homeView(deps, request)));
  });
  app.get('/invoices/:invoice_id', (request, response) => showInvoice(deps, request, response));
  const form = express.urlencoded({ extended: false, limit: 4096, inflate: false });
  app.post('/sign_in', form, (request, response) => signIn(deps, request, response));
  app.post('/sign_out', form, (request, response) => signOut(deps, request, response));
  addProbes(app, deps);
}

type Viewer = { readonly environment: Environment; readonly isSignedIn: boolean };

/** Who looks: somebody with a token in the cookie, or, where the home page is open, anybody on this machine. */
async function viewerOf(deps: AdminDeps, request: Request): Promise<Viewer | null> {
  const secret = cookieOf(request.get('cookie'), 'access_token');
  if (secret !== null && secret !== '') {
    const token = await findTokenByDigest(deps.db, digestOf(secret)).catch(() => null);
    if (token !== null && readers.includes(token.role)) {
      return { environment: token.environment, isSignedIn: true };
    }
  }
  return deps.home.isOpen && isOfThisMachine(request)
    ? { environment: 'test', isSignedIn: false }
    : null;
}

async function homeView(deps: AdminDeps, request: Request): Promise<HomeView> {
  const viewer = await viewerOf(deps, request);
  if (viewer === null) return { kind: 'signed_out' };
  const home = await readHome(deps, viewer.environment);
  return home === null ? { kind: 'away' } : { kind: 'shown', home, isSignedIn: viewer.isSignedIn };
}

/**
 * By the peer's address and by the name that was asked for: a foreign page that points its own name at 127.0.0.1
 * (rebinding) asks for that name.
 */
function isOfThisMachine(request: Request): boolean {
  const peer = request.socket.remoteAddress ?? '';
  const name = URL.parse(`http://${request.get('host') ?? ''}`)?.hostname ?? '';
  return (
    /^(::ffff:)?127\.|^::1$/.test(peer) &&
    /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(name) &&
    request.get('x-forwarded-for') === undefined
  );
}

async function showInvoice(deps: AdminDeps, request: Request, response: Response): Promise<void> {
  const viewer = await viewerOf(deps, request);
  if (viewer === null) {
    response.redirect(303, '/');
    return;
  }
  const asked = request.params['invoice_id'];
  const ref = typeof asked === 'string' ? asked.replace(/\.pdf$/, '') : '';
  const invoice = await findInvoiceRead(deps.db, viewer.environment, ref);
  if (invoice === null) {
    sendPage(
      response,
      404,
      page(
        'Not found',
        markup`<nav><a href="/">Home</a></nav>
          <h1>There is no such invoice</h1>`,
      ),
    );
    return;
  }
  const document = await readPrintedInvoice(deps.db, invoice);
  if (asked !== ref) {
    sendFile(response, await pdfAnswer(document, invoice.id));
    return;
  }
  const links = markup`<nav><a href="/">Home</a><a href="/invoices/${invoice.id}.pdf">PDF</a></nav>
`;
  sendPage(response, 200, htmlOf(document, links));
}

function isOurs(deps: AdminDeps, request: Request): boolean {
  return isSameOrigin({
    origin: request.get('origin'),
    fetchSite: request.get('sec-fetch-site'),
    host: request.get('host'),
    adminUrl: deps.home.adminUrl,
  });
}

async function signIn(deps: AdminDeps, request: Request, response: Response): Promise<void> {
  const body: unknown = request.body;
  const secret =
    typeof body === 'object' && body !== null && 'token' in body && typeof body.token === 'string'
      ? body.token.trim()
      : '';
  const token =
    isOurs(deps, request) && secret !== '' && secret.length <= 512
      ? await findTokenByDigest(deps.db, digestOf(secret))
      : null;
  if (token === null || !readers.includes(token.role)) {
    const refused = markup`<nav><a href="/">Home</a></nav>
      <h1>Not signed in</h1>
      <p>This token is not known, was revoked, or may not look at anything.</p>`;
    sendPage(response, 401, page('Not signed in', refused));
    return;
  }
  setSession(deps, response, { value: secret, maxAgeS: SESSION_S });
  response.redirect(303, '/');
}

function signOut(deps: AdminDeps, request: Request, response: Response): void {
  if (isOurs(deps, request)) setSession(deps, response, { value: '', maxAgeS: 0 });
  response.redirect(303, '/');
}

function setSession(
  deps: AdminDeps,
  response: Response,
  session: { readonly value: string; readonly maxAgeS: number },
): void {
  const secure = deps.home.adminUrl.startsWith('https:') ? '; Secure' : '';
  response.set(
    'Set-Cookie',
    `access_token=${encodeURIComponent(session.value)}; HttpOnly; SameSite=Strict; Path=/; Max-Age=${session.maxAgeS}${secure}`,
  );
}

function addProbes(app: Express, deps: AdminDeps): void {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  app.get('/healthz', (_request, response) => {
    response.json({ status: 'ok' });
  });
  app.get('/readyz', async (_request, response) => {
    const isUp = await isDatabaseUp(deps.db, READY_MS);
    response.status(isUp ? 200 : 503).json({ status: isUp ? 'ready' : 'postgres does not answer' });
  });
  app.get('/metrics', async (_request, response) => {
    response.type(registry.contentType).send(await registry.metrics());
  });
}
