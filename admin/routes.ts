/** Every route of the API. The router, the OpenAPI document and the table of roles are made from this list. */
import { addOnRoutes } from './resources/add-ons.ts';
import { couponRoutes } from './resources/coupons.ts';
import { creditNoteRoutes } from './resources/credit-notes.ts';
import { takeBackRoutes } from './resources/take-backs.ts';
import { documentRoutes } from './resources/documents.ts';
import { featureRoutes } from './resources/features.ts';
import { invoiceActionRoutes } from './resources/invoice-actions.ts';
import { invoiceRoutes } from './resources/invoices.ts';
import { meterRoutes } from './resources/meters.ts';
import { operatorSettingsRoutes } from './resources/operator-settings.ts';
import { planSimulationRoutes } from './resources/plan-simulation.ts';
import { planTemplateRoutes } from './resources/plan-templates.ts';
import { planChangeRoutes } from './resources/plan-changes.ts';
import { planVersionRoutes } from './resources/plan-versions.ts';
import { planRoutes } from './resources/plans.ts';
import { productRoutes } from './resources/products.ts';
import { serviceTokenRoutes } from './resources/service-tokens.ts';
import { subscriberRoutes } from './resources/subscribers.ts';
import { subscriptionExtraRoutes } from './resources/subscription-extras.ts';
import { subscriptionRoutes } from './resources/subscriptions.ts';
import { taxRateRoutes } from './resources/tax-rates.ts';
import { usageCorrectionRoutes } from './resources/usage-corrections.ts';
import { usageEventRoutes } from './resources/usage-events.ts';
import { walletRoutes } from './resources/wallets.ts';
import type { Route } from './route.ts';

export const routes: readonly Route[] = [
  ...productRoutes,
  ...meterRoutes,
  ...featureRoutes,
  ...planRoutes,
  ...planVersionRoutes,
  ...planTemplateRoutes,
  ...planSimulationRoutes,
  ...subscriberRoutes,
  ...subscriptionRoutes,
  ...planChangeRoutes,
  ...subscriptionExtraRoutes,
  ...walletRoutes,
  ...usageEventRoutes,
  ...usageCorrectionRoutes,
  // Before the others of their paths: `{id}.html` is also an `{id}`.
  ...documentRoutes,
  ...invoiceRoutes,
  ...invoiceActionRoutes,
  ...creditNoteRoutes,
  ...takeBackRoutes,
  ...couponRoutes,
  ...addOnRoutes,
  ...taxRateRoutes,
  ...operatorSettingsRoutes,
  ...serviceTokenRoutes,
];
