/** Every route of the API. The router, the OpenAPI document and the table of roles are made from this list. */
import { featureRoutes } from './resources/features.ts';
import { invoiceRoutes } from './resources/invoices.ts';
import { meterRoutes } from './resources/meters.ts';
import { planVersionRoutes } from './resources/plan-versions.ts';
import { planRoutes } from './resources/plans.ts';
import { productRoutes } from './resources/products.ts';
import { serviceTokenRoutes } from './resources/service-tokens.ts';
import { subscriberRoutes } from './resources/subscribers.ts';
import { subscriptionRoutes } from './resources/subscriptions.ts';
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
  ...subscriberRoutes,
  ...subscriptionRoutes,
  ...walletRoutes,
  ...usageEventRoutes,
  ...usageCorrectionRoutes,
  ...invoiceRoutes,
  ...serviceTokenRoutes,
];
