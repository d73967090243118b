/** The home page: what runs, where everything is, and where each subscriber stands. No script, no secret. */
import { formatCreditUnits } from '../billing/credits.ts';
import { formatMoney } from '../billing/money.ts';
import { formatUnits } from '../billing/quantity.ts';
import { creditsAhead } from '../store/bucket-reads.ts';
import { creditDefinitions } from '../store/credit-definitions.ts';
import { isDatabaseUp } from '../store/health.ts';
import { listInvoices, type InvoiceRead } from '../store/invoice-reads.ts';
import { allMeters, type MeterRow } from '../store/meters.ts';
import type { Environment } from '../store/query.ts';
import { listSubscribers, type SubscriberRow } from '../store/subscribers.ts';
import { liveSubscriptions, type SubscriptionRead } from '../store/subscription-reads.ts';
import { subscriptionUsage, upcomingInvoice } from '../store/usage-summary.ts';
import { walletBalances } from '../store/wallets.ts';
import type { AdminDeps } from './call.ts';
import { markup, page, type Html } from './html.ts';
import { storedCurrency } from './resources/invoice-shapes.ts';

const SHOWN_MAX = 25;
const PROBE_MS = 700;

type Standing = {
  readonly subscriber: SubscriberRow;
  readonly subscriptions: readonly {
    readonly row: SubscriptionRead;
    readonly used: readonly string[];
    readonly estimate: string | null;
    readonly periodText: string | null;
  }[];
  readonly credits: readonly string[];
};

export type Home = {
  readonly environment: Environment;
  readonly standings: readonly Standing[];
  readonly hasMore: boolean;
  readonly invoices: readonly InvoiceRead[];
};

/** Where the newest subscribers of an environment stand. */
export async function readHome(deps: AdminDeps, environment: Environment): Promise<Home | null> {
  if (!(await isDatabaseUp(deps.db, PROBE_MS))) return null;
  const subscribers = await listSubscribers(deps.db, environment, {
    limit: SHOWN_MAX,
    after: null,
  });
  const meters = await allMeters(deps.db, environment);
  const live = await liveSubscriptions(
    deps.db,
    subscribers.rows.map(({ id }) => id),
  );
  const standings: Standing[] = [];
  for (const subscriber of subscribers.rows) {
    const own = live.filter(({ subscriber_id }) => subscriber_id === subscriber.id);
    // One after the other: a page must not take every connection of the pool.
    // oxlint-disable-next-line no-await-in-loop
    standings.push(await readStanding(deps, { subscriber, own, meters }));
  }
  const filter = { environment, subscriberId: null, subscriptionId: null, periodId: null };
  const invoices = await listInvoices(deps.db, filter, { limit: 10, after: null });
  return { environment, standings, hasMore: subscribers.hasMore, invoices: invoices.rows };
}

async function readStanding(
  deps: AdminDeps,
  of: {
    readonly subscriber: SubscriberRow;
    readonly own: readonly SubscriptionRead[];
    readonly meters: readonly MeterRow[];
  },
): Promise<Standing> {
  const nowMs = Date.now();
  const subscriptions: Standing['subscriptions'][number][] = [];
  for (const row of of.own) {
    // oxlint-disable-next-line no-await-in-loop
    const used = await subscriptionUsage(deps.db, row.id, nowMs);
    // oxlint-disable-next-line no-await-in-loop
    const upcoming = await upcomingInvoice(deps.db, row.id, nowMs);
    subscriptions.push({
      row,
      used: (used?.meters ?? []).map(({ meterId, meterKey, quantity }) =>
        usedText(
          quantity,
          of.meters.find(({ id }) => id === meterId),
          meterKey,
        ),
      ),
      estimate:
        upcoming === null
          ? null
          : formatMoney(upcoming.draft.totalMinor, storedCurrency(row.currency)),
      periodText: upcoming?.draft.periodText ?? null,
    });
  }
  const wallets = await walletBalances(deps.db, of.subscriber.id);
  const ahead = await creditsAhead(deps.db, of.subscriber.id);
  const definitions = await creditDefinitions(deps.db, {
    environment: of.subscriber.environment,
    subscriberId: of.subscriber.id,
  });
  return {
    subscriber: of.subscriber,
    subscriptions,
    credits: wallets.map(({ unit, available }) => {
      const left = formatCreditUnits(available - (ahead.get(unit) ?? 0n), unit);
      const definition = definitions.get(unit);
      return definition === undefined ? `${left} left` : `${left} left (${definition})`;
    }),
  };
}

function usedText(quantity: bigint, meter: MeterRow | undefined, key: string): string {
  return meter === undefined
    ? `${key}: ${quantity}`
    : `${meter.name}: ${formatUnits(quantity, meter)}`;
}

/** What a visitor may see; `away`: Postgres does not answer. */
export type HomeView =
  | { readonly kind: 'shown'; readonly home: Home; readonly isSignedIn: boolean }
  | { readonly kind: 'away' }
  | { readonly kind: 'signed_out' };

/** The page: what runs, for everybody; subscribers and invoices for who may see them. */
export async function homePage(deps: AdminDeps, view: HomeView): Promise<string> {
  return page(
    'Tollbook',
    markup`<nav>
        <a href="/docs">API reference</a><a href="/api/v1/openapi.json">OpenAPI</a
        ><a href="${deps.home.temporalUiUrl}">Temporal</a>
      </nav>
      <h1>Tollbook</h1>
      <p>
        Your API is behind the gateway: every request is metered, paid for, and becomes a line on an
        invoice.
      </p>
      ${await runsPart(deps)} ${viewPart(view)}`,
  );
}

async function runsPart(deps: AdminDeps): Promise<Html> {
  const { gatewayUrls, temporalUiUrl, adminUrl } = deps.home;
  const isDatabase = await isDatabaseUp(deps.db, PROBE_MS);
  const gateways = await Promise.all(
    gatewayUrls.map(async (url) => ({ url, isUp: await answersAt(`${url}/readyz`) })),
  );
  const isTemporalUi = await answersAt(temporalUiUrl);
  const state = (isUp: boolean): Html =>
    isUp
      ? markup`<span class="good">answers</span>`
      : markup`<span class="bad">does not answer</span>`;
  return markup`<h2>What runs</h2>
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">Part</th>
            <th scope="col">Where</th>
            <th scope="col">State</th>
          </tr>
        </thead>
        <tbody>
          <tr>
            <td>Admin API</td>
            <td><a href="/docs">${adminUrl}</a></td>
            <td>${state(true)}</td>
          </tr>
          <tr>
            <td>Postgres</td>
            <td class="soft">holds what is true</td>
            <td>${state(isDatabase)}</td>
          </tr>
          ${gateways.map(
            ({ url, isUp }, index) =>
              markup`<tr>
                <td>Gateway ${index + 1}</td>
                <td><code>${url}</code></td>
                <td>${state(isUp)}</td>
              </tr> `,
          )}
          <tr>
            <td>Workflows</td>
            <td><a href="${temporalUiUrl}">${temporalUiUrl}</a></td>
            <td>${state(isTemporalUi)}</td>
          </tr>
        </tbody>
      </table>
    </div>`;
}

async function answersAt(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, {
      signal: AbortSignal.timeout(PROBE_MS),
      redirect: 'manual',
    });
    await response.body?.cancel();
    return response.status < 500;
  } catch {
    return false;
  }
}

function subscribersPart(home: Home): Html {
  if (home.standings.length === 0) {
    return markup`<h2>Subscribers</h2>
      <p>None yet. Add one with <code>POST /api/v1/subscribers</code>.</p>`;
  }
  return markup`<h2>Subscribers</h2>
    <p class="soft">
      Environment ${home.environment}. Estimates are what the invoice would be now.
    </p>
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">Subscriber</th>
            <th scope="col">Plan</th>
            <th scope="col">Used in this period</th>
            <th scope="col" class="number">Estimate</th>
          </tr>
        </thead>
        <tbody>
          ${home.standings.map((standing) => standingRows(standing))}
        </tbody>
      </table>
    </div>
    ${home.hasMore ? markup`<p class="soft">The newest ${SHOWN_MAX} are shown.</p>` : null}`;
}

function standingRows({ subscriber, subscriptions, credits }: Standing): Html {
  const name = markup`${subscriber.name}<br><code class="soft">${subscriber.lookup_id ?? subscriber.id}</code>`;
  const creditLines = credits.map((words) => markup`<br><span class="soft">${words}</span>`);
  if (subscriptions.length === 0) {
    return markup`<tr>
      <td>${name}</td>
      <td class="soft">no subscription</td>
      <td>${creditLines}</td>
      <td></td>
    </tr> `;
  }
  const rows = subscriptions.map(
    ({ row, used, estimate, periodText }) =>
      markup`<tr>
        <td>${name}</td>
        <td>
          ${row.plan_name}<br><span class="soft">${row.state}${periodText === null ? null : markup` · ${periodText}`}</span>
        </td>
        <td>${used.length === 0 ? 'nothing yet' : used.join(', ')}${creditLines}</td>
        <td class="number">${estimate ?? '–'}</td>
      </tr> `,
  );
  return markup`${rows}`;
}

function invoicesPart(home: Home): Html | null {
  if (home.invoices.length === 0) return null;
  return markup`<h2>Invoices</h2>
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">Number</th>
            <th scope="col">Subscriber</th>
            <th scope="col">Period</th>
            <th scope="col">State</th>
            <th scope="col" class="number">Total</th>
          </tr>
        </thead>
        <tbody>
          ${home.invoices.map(
            (invoice) =>
              markup`<tr>
                <td><a href="/invoices/${invoice.id}">${invoice.number ?? 'draft'}</a></td>
                <td>${invoice.document.subscriber.name}</td>
                <td>${invoice.document.period_text ?? ''}</td>
                <td>${invoice.state}</td>
                <td class="number">
                  ${formatMoney(invoice.total_minor, storedCurrency(invoice.currency))}
                </td>
              </tr> `,
          )}
        </tbody>
      </table>
    </div>`;
}

const signOutPart = markup`<form method="post" action="/sign_out" class="screen">
  <button type="submit">Sign out</button>
</form>`;

function viewPart(view: HomeView): Html {
  switch (view.kind) {
    case 'shown':
      return markup`${subscribersPart(view.home)}${invoicesPart(view.home)}${view.isSignedIn ? signOutPart : null}`;
    case 'away':
      return markup`<h2>Subscribers</h2>
        <p class="bad">They cannot be shown while Postgres does not answer.</p>`;
    case 'signed_out':
      return signInPart;
    default:
      return view satisfies never;
  }
}

const signInPart = markup`<h2>Sign in</h2>
  <p>With a service token of role admin, operator or reader.</p>
  <form method="post" action="/sign_in">
    <label for="token">Service token</label>
    <input id="token" name="token" type="password" autocomplete="current-password" required />
    <button type="submit">Sign in</button>
  </form>`;
