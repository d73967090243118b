import assert from 'node:assert/strict';

import { routes } from '../../admin/routes.ts';
import { roles, type Role } from '../../store/tokens.ts';
import { startAdmin, type TestAdmin } from './support.ts';

/** Who may do what, written down by hand: a route that is missing here, or open to somebody else, fails. */
const allowed: Readonly<Record<string, readonly Role[]>> = {
  createProduct: ['admin', 'operator'],
  listProducts: ['admin', 'operator', 'reader'],
  showProduct: ['admin', 'operator', 'reader'],
  changeProduct: ['admin', 'operator'],
  putRoute: ['admin', 'operator'],
  listRoutes: ['admin', 'operator', 'reader'],
  deleteRoute: ['admin', 'operator'],
  createMeter: ['admin', 'operator'],
  listMeters: ['admin', 'operator', 'reader'],
  showMeter: ['admin', 'operator', 'reader'],
  changeMeter: ['admin', 'operator'],
  createFeature: ['admin', 'operator'],
  listFeatures: ['admin', 'operator', 'reader'],
  showFeature: ['admin', 'operator', 'reader'],
  changeFeature: ['admin', 'operator'],
  createPlan: ['admin', 'operator'],
  listPlans: ['admin', 'operator', 'reader'],
  showPlan: ['admin', 'operator', 'reader'],
  changePlan: ['admin', 'operator'],
  addCharge: ['admin', 'operator'],
  removeCharge: ['admin', 'operator'],
  addPlanFeature: ['admin', 'operator'],
  removePlanFeature: ['admin', 'operator'],
  publishPlan: ['admin', 'operator'],
  archivePlan: ['admin', 'operator'],
  archivePlanVersion: ['admin', 'operator'],
  comparePlanVersions: ['admin', 'operator', 'reader'],
  listPlanTemplates: ['admin', 'operator', 'reader'],
  simulatePlan: ['admin', 'operator', 'reader'],
  createPlanVersion: ['admin', 'operator'],
  listPlanVersions: ['admin', 'operator', 'reader'],
  showPlanVersion: ['admin', 'operator', 'reader'],
  createSubscriber: ['admin', 'operator'],
  listSubscribers: ['admin', 'operator', 'reader'],
  showSubscriber: ['admin', 'operator', 'reader'],
  changeSubscriber: ['admin', 'operator'],
  createApiKey: ['admin', 'operator'],
  listApiKeys: ['admin', 'operator', 'reader'],
  revokeApiKey: ['admin', 'operator'],
  startSubscription: ['admin', 'operator'],
  listSubscriptions: ['admin', 'operator', 'reader'],
  showSubscription: ['admin', 'operator', 'reader'],
  changeSubscription: ['admin', 'operator'],
  cancelSubscription: ['admin', 'operator'],
  changeSubscriptionPlan: ['admin', 'operator'],
  previewPlanChange: ['admin', 'operator', 'reader'],
  cancelPlanChange: ['admin', 'operator'],
  listPlanChanges: ['admin', 'operator', 'reader'],
  listPeriods: ['admin', 'operator', 'reader'],
  closePeriod: ['admin', 'operator'],
  showConstraints: ['admin', 'operator', 'reader'],
  showSubscriptionUsage: ['admin', 'operator', 'reader'],
  showUpcomingInvoice: ['admin', 'operator', 'reader'],
  billLateUsage: ['admin', 'operator'],
  createTopUp: ['admin', 'operator'],
  listTopUps: ['admin', 'operator', 'reader'],
  showTopUp: ['admin', 'operator', 'reader'],
  createGrant: ['admin', 'operator'],
  showBalance: ['admin', 'operator', 'reader'],
  recordUsageEvents: ['admin', 'operator', 'ingest'],
  listUsageEvents: ['admin', 'operator', 'reader'],
  showUsageEvent: ['admin', 'operator', 'reader'],
  correctUsageEvent: ['admin', 'operator'],
  listInvoices: ['admin', 'operator', 'reader'],
  showInvoicePage: ['admin', 'operator', 'reader'],
  showInvoicePdf: ['admin', 'operator', 'reader'],
  showCreditNotePage: ['admin', 'operator', 'reader'],
  showCreditNotePdf: ['admin', 'operator', 'reader'],
  showInvoice: ['admin', 'operator', 'reader'],
  explainInvoiceLine: ['admin', 'operator', 'reader'],
  refreshInvoice: ['admin', 'operator'],
  finalizeInvoice: ['admin', 'operator'],
  payInvoice: ['admin', 'operator'],
  markInvoicePaid: ['admin', 'operator'],
  markInvoiceUncollectible: ['admin', 'operator'],
  voidInvoice: ['admin', 'operator'],
  reissueInvoice: ['admin', 'operator'],
  createCreditNote: ['admin', 'operator'],
  listInvoiceCreditNotes: ['admin', 'operator', 'reader'],
  listInvoiceTakeBacks: ['admin', 'operator', 'reader'],
  showTakeBack: ['admin', 'operator', 'reader'],
  listCreditNotes: ['admin', 'operator', 'reader'],
  showCreditNote: ['admin', 'operator', 'reader'],
  createCoupon: ['admin', 'operator'],
  listCoupons: ['admin', 'operator', 'reader'],
  showCoupon: ['admin', 'operator', 'reader'],
  archiveCoupon: ['admin', 'operator'],
  createAddOn: ['admin', 'operator'],
  listAddOns: ['admin', 'operator', 'reader'],
  showAddOn: ['admin', 'operator', 'reader'],
  archiveAddOn: ['admin', 'operator'],
  createTaxRate: ['admin', 'operator'],
  listTaxRates: ['admin', 'operator', 'reader'],
  showTaxRate: ['admin', 'operator', 'reader'],
  changeTaxRate: ['admin', 'operator'],
  archiveTaxRate: ['admin', 'operator'],
  showOperatorSettings: ['admin', 'operator', 'reader'],
  changeOperatorSettings: ['admin', 'operator'],
  addSubscriptionCoupon: ['admin', 'operator'],
  listSubscriptionCoupons: ['admin', 'operator', 'reader'],
  removeSubscriptionCoupon: ['admin', 'operator'],
  addSubscriptionAddOn: ['admin', 'operator'],
  listSubscriptionAddOns: ['admin', 'operator', 'reader'],
  endSubscriptionAddOn: ['admin', 'operator'],
  createServiceToken: ['admin'],
  listServiceTokens: ['admin'],
  revokeServiceToken: ['admin'],
};

describe('admin › role × route', () => {
  let admin: TestAdmin;
  before(async () => {
    admin = await startAdmin();
  });
  after(() => admin.stop());

  it('lists every route once', () => {
    const known = routes.map(({ operationId }) => operationId);
    assert.deepEqual(known.toSorted(), Object.keys(allowed).toSorted());
    assert.equal(
      new Set(routes.map(({ method, path }) => `${method} ${path}`)).size,
      routes.length,
    );
  });

  for (const route of routes) {
    it(`${route.operationId}: ${route.method} ${route.path}`, async () => {
      const path = `/api/v1${route.path.replaceAll(/\{\w+\}/g, 'nobody')}`;
      const method = route.method.toUpperCase();
      const options = route.body === null ? {} : { body: { no_such_property: 1 } };
      const nobody = await admin.call(method, path, { ...options, token: null });
      assert.equal(nobody.body['code'], 'missing_credential');
      assert.equal(nobody.status, 401);
      const stranger = await admin.call(method, path, { ...options, token: 'tbs_test_unknown' });
      assert.equal(stranger.body['code'], 'invalid_credential');
      for (const role of roles) {
        const reply = await admin.call(method, path, { ...options, token: admin.tokens[role] });
        if (allowed[route.operationId]?.includes(role) === true) {
          assert.ok(![401, 403].includes(reply.status), `${role}: ${reply.status} ${reply.text}`);
          assert.ok(reply.status < 500, `${role}: ${reply.status} ${reply.text}`);
        } else {
          assert.equal(reply.status, 403, `${role}: ${reply.text}`);
          assert.equal(reply.body['code'], 'forbidden');
        }
      }
    });
  }

  it('writes an audit record of each refusal', async () => {
    const before = await count(admin);
    await admin.call('POST', '/api/v1/plans', { token: admin.tokens.reader, body: {} });
    assert.equal(await count(admin), before + 1);
  });
});

async function count(admin: TestAdmin): Promise<number> {
  const answer = await admin.db.raw<{ rows: { n: number }[] }>(
    "SELECT count(*)::int AS n FROM audit_log WHERE action = 'forbidden'",
  );
  return answer.rows[0]?.n ?? -1;
}
