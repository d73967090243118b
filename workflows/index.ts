/** What the worker bundles: every workflow by its type's name. */
export { collection } from './collection.ts';
export { payment } from './payment.ts';
export { periodClose } from './period-close.ts';
export { refund } from './refund.ts';
export { subscription } from './subscription.ts';
export { takeBack } from './take-back.ts';
export { topUp } from './top-up.ts';
