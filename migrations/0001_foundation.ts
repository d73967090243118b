import type { Knex } from 'knex';

/**
 * The whole schema of the first release. Once landed this file is frozen: every later change is a migration of its own.
 * Rules that hold throughout: instants are timestamptz (UTC), money is bigint in minor units, credits are bigint in
 * micro-credits, quantities are bigint in the meter's smallest unit, and each money effect has a unique business key.
 */
const catalogue = `
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE TABLE products (
  id text PRIMARY KEY CHECK (id ~ '^prod_[0-9a-z]{22}$'),
  environment text NOT NULL CHECK (environment IN ('test', 'live')),
  lookup_id text NOT NULL CHECK (lookup_id ~ '^[a-z][a-z0-9_-]{0,62}$'),
  name text NOT NULL,
  hosts text[] NOT NULL DEFAULT '{}',
  upstream_url text NOT NULL,
  reports_usage boolean NOT NULL DEFAULT false,
  credit_definition text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (environment, lookup_id)
);
CREATE TABLE meters (
  id text PRIMARY KEY CHECK (id ~ '^mtr_[0-9a-z]{22}$'),
  environment text NOT NULL CHECK (environment IN ('test', 'live')),
  lookup_id text NOT NULL CHECK (lookup_id ~ '^[a-z][a-z0-9_]{1,62}$'),
  name text NOT NULL,
  unit_one text NOT NULL,
  unit_other text NOT NULL,
  scale smallint NOT NULL DEFAULT 0 CHECK (scale BETWEEN 0 AND 9),
  aggregation text NOT NULL CHECK (aggregation IN ('SUM', 'COUNT', 'MAX', 'LATEST', 'UNIQUE_COUNT', 'WEIGHTED_SUM')),
  usage_pricing_rules jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (environment, lookup_id)
);
CREATE TABLE features (
  id text PRIMARY KEY CHECK (id ~ '^feat_[0-9a-z]{22}$'),
  environment text NOT NULL CHECK (environment IN ('test', 'live')),
  lookup_id text NOT NULL CHECK (lookup_id ~ '^[a-z][a-z0-9_]{1,62}$'),
  name text NOT NULL,
  meter_id text REFERENCES meters,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (environment, lookup_id)
);
CREATE TABLE routes (
  id text PRIMARY KEY CHECK (id ~ '^rte_[0-9a-z]{22}$'),
  product_id text NOT NULL REFERENCES products,
  method text NOT NULL CHECK (method ~ '^(\\*|[A-Z]{3,10})$'),
  path text NOT NULL CHECK (path ~ '^/'),
  feature_id text REFERENCES features,
  rules jsonb NOT NULL DEFAULT '[]',
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (product_id, method, path)
);
CREATE TABLE plans (
  id text PRIMARY KEY CHECK (id ~ '^plan_[0-9a-z]{22}$'),
  environment text NOT NULL CHECK (environment IN ('test', 'live')),
  product_id text NOT NULL REFERENCES products,
  lookup_id text NOT NULL CHECK (lookup_id ~ '^[a-z][a-z0-9_-]{0,62}$'),
  name text NOT NULL,
  type text NOT NULL CHECK (type IN ('FLAT', 'USAGE', 'HYBRID', 'CREDITS', 'CUSTOM')),
  created_at timestamptz NOT NULL DEFAULT now(),
  archived_at timestamptz,
  UNIQUE (environment, lookup_id)
);
-- A version is a draft until it is published; from then on it never changes (trigger below).
CREATE TABLE plan_versions (
  id text PRIMARY KEY CHECK (id ~ '^pver_[0-9a-z]{22}$'),
  plan_id text NOT NULL REFERENCES plans,
  version integer NOT NULL CHECK (version > 0),
  state text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'published', 'archived')),
  currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  interval_unit text NOT NULL CHECK (interval_unit IN ('hour', 'day', 'week', 'month', 'year')),
  interval_count integer NOT NULL DEFAULT 1 CHECK (interval_count BETWEEN 1 AND 1000),
  billing_time text NOT NULL DEFAULT 'anniversary' CHECK (billing_time IN ('anniversary', 'calendar')),
  base_price_minor bigint CHECK (base_price_minor >= 0),
  credit_terms jsonb,
  rate_limits jsonb NOT NULL DEFAULT '[]',
  definition jsonb,
  published_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (plan_id, version),
  CHECK ((state = 'draft') = (published_at IS NULL)),
  CHECK (state = 'draft' OR definition IS NOT NULL)
);
CREATE UNIQUE INDEX one_draft_per_plan ON plan_versions (plan_id) WHERE state = 'draft';
CREATE TABLE charges (
  id text PRIMARY KEY CHECK (id ~ '^chg_[0-9a-z]{22}$'),
  plan_version_id text NOT NULL REFERENCES plan_versions,
  position integer NOT NULL,
  type text NOT NULL CHECK (type IN ('RECURRING', 'USAGE', 'ONE_TIME')),
  meter_id text REFERENCES meters,
  display_name text NOT NULL,
  price jsonb,
  included_units bigint NOT NULL DEFAULT 0 CHECK (included_units BETWEEN 0 AND 999999999999999),
  bill_in text NOT NULL DEFAULT 'arrears' CHECK (bill_in IN ('advance', 'arrears')),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (plan_version_id, position),
  CHECK ((type = 'USAGE') = (meter_id IS NOT NULL))
);
CREATE TABLE plan_features (
  plan_version_id text NOT NULL REFERENCES plan_versions,
  feature_id text NOT NULL REFERENCES features,
  "limit" bigint CHECK ("limit" BETWEEN 0 AND 999999999999999),
  limit_type text NOT NULL DEFAULT 'HARD' CHECK (limit_type IN ('HARD', 'SOFT')),
  reset_interval text NOT NULL DEFAULT 'period' CHECK (reset_interval IN ('hour', 'day', 'week', 'month', 'year', 'period')),
  PRIMARY KEY (plan_version_id, feature_id)
);
CREATE FUNCTION refuse_change_of_published_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND OLD.state <> 'draft' THEN
    RAISE EXCEPTION 'plan version % is published and never changes', OLD.id;
  END IF;
  IF TG_OP = 'UPDATE' AND OLD.state <> 'draft'
     AND (to_jsonb(NEW) - 'state') IS DISTINCT FROM (to_jsonb(OLD) - 'state') THEN
    RAISE EXCEPTION 'plan version % is published and never changes', OLD.id;
  END IF;
  IF TG_OP = 'UPDATE' AND OLD.state <> 'draft' AND NEW.state = 'draft' THEN
    RAISE EXCEPTION 'plan version % is published and cannot become a draft again', OLD.id;
  END IF;
  RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER published_versions_are_frozen BEFORE UPDATE OR DELETE ON plan_versions
  FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_version();
CREATE FUNCTION refuse_change_of_published_parts() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE version_id text := CASE TG_OP WHEN 'DELETE' THEN OLD.plan_version_id ELSE NEW.plan_version_id END;
BEGIN
  IF EXISTS (SELECT 1 FROM plan_versions WHERE id = version_id AND state <> 'draft')
     OR (TG_OP = 'UPDATE' AND EXISTS (SELECT 1 FROM plan_versions WHERE id = OLD.plan_version_id AND state <> 'draft')) THEN
    RAISE EXCEPTION 'plan version % is published and never changes', version_id;
  END IF;
  RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER published_charges_are_frozen BEFORE INSERT OR UPDATE OR DELETE ON charges
  FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_parts();
CREATE TRIGGER published_features_are_frozen BEFORE INSERT OR UPDATE OR DELETE ON plan_features
  FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_parts();
`;

const subscribers = `
-- runtime_version and core_seq are bumped in the transaction of the change; applied_* is what the shard is known to hold.
CREATE TABLE subscribers (
  id text PRIMARY KEY CHECK (id ~ '^sbr_[0-9a-z]{22}$'),
  environment text NOT NULL CHECK (environment IN ('test', 'live')),
  lookup_id text CHECK (lookup_id ~ '^[A-Za-z0-9][A-Za-z0-9_.@-]{0,126}$'),
  name text NOT NULL,
  email text,
  address text,
  tax_id text,
  time_zone text NOT NULL DEFAULT 'UTC',
  payment_method text,
  slot smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
  clock_offset_ms bigint NOT NULL DEFAULT 0 CHECK (environment = 'test' OR clock_offset_ms = 0),
  runtime_version bigint NOT NULL DEFAULT 0,
  core_seq bigint NOT NULL DEFAULT 0,
  applied_version bigint NOT NULL DEFAULT 0,
  applied_core_seq bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (environment, lookup_id),
  CHECK (applied_version <= runtime_version),
  CHECK (applied_core_seq <= core_seq)
);
CREATE INDEX subscribers_by_slot ON subscribers (slot);
CREATE INDEX subscribers_to_project ON subscribers (id)
  WHERE applied_version < runtime_version OR applied_core_seq < core_seq;
CREATE TABLE api_keys (
  id text PRIMARY KEY CHECK (id ~ '^key_[0-9a-z]{22}$'),
  environment text NOT NULL CHECK (environment IN ('test', 'live')),
  subscriber_id text NOT NULL REFERENCES subscribers,
  name text NOT NULL DEFAULT '',
  digest bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
  last4 text NOT NULL CHECK (length(last4) = 4),
  product_ids text[] NOT NULL DEFAULT '{}',
  expires_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_keys_by_subscriber ON api_keys (subscriber_id);
CREATE TABLE subscriptions (
  id text PRIMARY KEY CHECK (id ~ '^sub_[0-9a-z]{22}$'),
  environment text NOT NULL CHECK (environment IN ('test', 'live')),
  subscriber_id text NOT NULL REFERENCES subscribers,
  product_id text NOT NULL REFERENCES products,
  plan_id text NOT NULL REFERENCES plans,
  plan_version_id text NOT NULL REFERENCES plan_versions,
  state text NOT NULL CHECK (state IN ('pending', 'active', 'past_due', 'canceled')),
  version integer NOT NULL DEFAULT 1,
  currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  time_zone text NOT NULL,
  anchor_at timestamptz NOT NULL,
  overage_enabled boolean NOT NULL DEFAULT false,
  started_at timestamptz,
  cancel_at timestamptz,
  ended_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  CHECK ((state = 'canceled') = (ended_at IS NOT NULL))
);
CREATE UNIQUE INDEX one_live_subscription_per_product ON subscriptions (subscriber_id, product_id) WHERE state <> 'canceled';
-- interval_*: the whole billing interval. Closing early cuts a period in two inside its interval; fee, included units and
-- tiers belong to the interval, so the second part is rated as rate(total) - rate(already billed).
CREATE TABLE periods (
  id text PRIMARY KEY CHECK (id ~ '^per_[0-9a-z]{22}$'),
  subscription_id text NOT NULL REFERENCES subscriptions,
  seq integer NOT NULL CHECK (seq >= 0),
  interval_index integer NOT NULL CHECK (interval_index >= 0),
  interval_start_at timestamptz NOT NULL,
  interval_end_at timestamptz NOT NULL,
  start_at timestamptz NOT NULL,
  end_at timestamptz NOT NULL,
  state text NOT NULL DEFAULT 'scheduled' CHECK (state IN ('scheduled', 'open', 'closing', 'closed', 'void')),
  sealed_shard text,
  sealed_incarnation bigint,
  sealed_stream_id text,
  closed_at timestamptz,
  UNIQUE (subscription_id, seq),
  CHECK (end_at > start_at),
  CHECK (start_at >= interval_start_at AND end_at <= interval_end_at),
  CHECK ((state = 'closed') = (closed_at IS NOT NULL)),
  CONSTRAINT periods_never_overlap EXCLUDE USING gist (subscription_id WITH =, tstzrange(start_at, end_at, '[)') WITH &&) WHERE (state <> 'void')
);
CREATE INDEX periods_by_state ON periods (state, end_at) WHERE state IN ('open', 'closing');
CREATE TABLE segments (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  subscription_id text NOT NULL REFERENCES subscriptions,
  period_id text NOT NULL REFERENCES periods,
  plan_version_id text NOT NULL REFERENCES plan_versions,
  from_at timestamptz NOT NULL,
  until_at timestamptz NOT NULL,
  status text NOT NULL CHECK (status IN ('active', 'past_due', 'inactive')),
  overage boolean NOT NULL,
  void boolean NOT NULL DEFAULT false,
  CHECK (until_at > from_at),
  CONSTRAINT segments_never_overlap EXCLUDE USING gist (subscription_id WITH =, tstzrange(from_at, until_at, '[)') WITH &&) WHERE (NOT void)
);
CREATE INDEX segments_by_period ON segments (period_id);
`;

const usage = `
CREATE TABLE usage_events (
  event_day date NOT NULL,
  event_id text NOT NULL,
  environment text NOT NULL,
  subscriber_id text NOT NULL,
  subscription_id text NOT NULL,
  segment_id bigint NOT NULL,
  period_id text NOT NULL,
  adjusts_period_id text,
  product_id text NOT NULL,
  api_key_id text,
  occurred_at timestamptz NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  status smallint NOT NULL,
  meter_ids text[] NOT NULL,
  quantities bigint[] NOT NULL,
  bucket_ids bigint[] NOT NULL DEFAULT '{}',
  bucket_micro bigint[] NOT NULL DEFAULT '{}',
  credits_micro bigint NOT NULL DEFAULT 0 CHECK (credits_micro BETWEEN 0 AND 999999999999999),
  overage_micro bigint NOT NULL DEFAULT 0 CHECK (overage_micro BETWEEN 0 AND 999999999999999),
  written_off_micro bigint NOT NULL DEFAULT 0 CHECK (written_off_micro BETWEEN 0 AND 999999999999999),
  flags text[] NOT NULL DEFAULT '{}',
  ledger_txn_id bigint,
  PRIMARY KEY (event_day, event_id),
  CHECK (cardinality(meter_ids) = cardinality(quantities)),
  CHECK (cardinality(bucket_ids) = cardinality(bucket_micro)),
  CHECK (0 <= ALL (quantities) AND 999999999999999 >= ALL (quantities) AND array_position(quantities, NULL) IS NULL),
  CHECK (0 < ALL (bucket_micro) AND 999999999999999 >= ALL (bucket_micro) AND array_position(bucket_micro, NULL) IS NULL),
  CHECK (to_char(event_day, 'YYYYMMDD') = left(event_id, 8))
) PARTITION BY RANGE (event_day);
CREATE TABLE usage_events_default PARTITION OF usage_events DEFAULT;
CREATE INDEX usage_events_by_period ON usage_events (period_id, occurred_at);
CREATE INDEX usage_events_by_subscriber ON usage_events (subscriber_id, occurred_at);

-- Ids of events from outside: unique for ever per (environment, source), whatever becomes of the event's partition.
CREATE TABLE external_events (
  environment text NOT NULL,
  source text NOT NULL,
  id text NOT NULL CHECK (length(id) BETWEEN 1 AND 200),
  op_id text NOT NULL UNIQUE,
  subscriber_id text NOT NULL REFERENCES subscribers,
  body_digest bytea NOT NULL,
  body jsonb NOT NULL,
  counted boolean NOT NULL DEFAULT false,
  result jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (environment, source, id)
);
CREATE INDEX external_events_uncounted ON external_events (created_at) WHERE NOT counted;

-- What rating reads. The upper bounds refuse NaN, which is above every number. adjusts_period_id names the closed period that a late event belongs to ('' = none).
CREATE TABLE usage_rollups (
  subscription_id text NOT NULL REFERENCES subscriptions,
  segment_id bigint NOT NULL REFERENCES segments,
  meter_id text NOT NULL,
  hour timestamptz NOT NULL,
  adjusts_period_id text NOT NULL DEFAULT '',
  quantity numeric(38,0) NOT NULL CHECK (quantity >= 0 AND quantity < 1e30),
  event_count bigint NOT NULL CHECK (event_count > 0),
  max_quantity bigint NOT NULL,
  latest_quantity bigint NOT NULL,
  latest_at timestamptz NOT NULL,
  PRIMARY KEY (subscription_id, segment_id, meter_id, hour, adjusts_period_id)
);
CREATE TABLE credit_rollups (
  subscription_id text NOT NULL REFERENCES subscriptions,
  segment_id bigint NOT NULL REFERENCES segments,
  hour timestamptz NOT NULL,
  adjusts_period_id text NOT NULL DEFAULT '',
  event_count bigint NOT NULL CHECK (event_count > 0),
  credits_micro numeric(38,0) NOT NULL CHECK (credits_micro >= 0 AND credits_micro < 1e30),
  overage_micro numeric(38,0) NOT NULL CHECK (overage_micro >= 0 AND overage_micro < 1e30),
  written_off_micro numeric(38,0) NOT NULL CHECK (written_off_micro >= 0 AND written_off_micro < 1e30),
  PRIMARY KEY (subscription_id, segment_id, hour, adjusts_period_id)
);
`;

const ledger = `
CREATE TABLE accounts (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  environment text NOT NULL,
  asset text NOT NULL CHECK (asset ~ '^([A-Z]{3}|credit:[a-z][a-z0-9_]{0,62})$'),
  kind text NOT NULL CHECK (kind IN ('world', 'available', 'spent', 'expired', 'refunded', 'receivable', 'revenue', 'tax_payable', 'cash', 'deferred_revenue', 'account_balance')),
  subscriber_id text REFERENCES subscribers,
  UNIQUE NULLS NOT DISTINCT (environment, asset, kind, subscriber_id)
);
CREATE TABLE ledger_txns (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  environment text NOT NULL,
  kind text NOT NULL,
  business_key text NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now()
);
-- Signs: what a subscriber or we own is positive, its counterpart negative; every (transaction, asset) sums to zero.
CREATE TABLE ledger_entries (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  txn_id bigint NOT NULL REFERENCES ledger_txns,
  account_id bigint NOT NULL REFERENCES accounts,
  amount bigint NOT NULL CHECK (amount <> 0 AND amount BETWEEN -1000000000000000 AND 1000000000000000)
);
CREATE INDEX ledger_entries_by_txn ON ledger_entries (txn_id);
CREATE INDEX ledger_entries_by_account ON ledger_entries (account_id, id);
CREATE FUNCTION require_zero_sum() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (
    SELECT 1 FROM ledger_entries e JOIN accounts a ON a.id = e.account_id
    WHERE e.txn_id = NEW.txn_id GROUP BY a.asset HAVING sum(e.amount) <> 0
  ) THEN
    RAISE EXCEPTION 'ledger transaction % does not sum to zero in each asset', NEW.txn_id;
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER entries_sum_to_zero AFTER INSERT ON ledger_entries
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION require_zero_sum();
CREATE FUNCTION require_entries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT count(*) FROM ledger_entries WHERE txn_id = NEW.id) < 2 THEN
    RAISE EXCEPTION 'ledger transaction % has fewer than two entries', NEW.id;
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER txns_have_entries AFTER INSERT ON ledger_txns
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION require_entries();
CREATE FUNCTION refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: post a correcting record instead', TG_TABLE_NAME;
END $$;
CREATE TRIGGER ledger_txns_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_txns FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

CREATE TABLE wallets (
  id text PRIMARY KEY CHECK (id ~ '^wal_[0-9a-z]{22}$'),
  subscriber_id text NOT NULL REFERENCES subscribers,
  unit text NOT NULL CHECK (unit ~ '^[a-z][a-z0-9_]{0,62}$'),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (subscriber_id, unit)
);
-- One bucket per grant group (priority, expiry, class, scope): what the shard counts and an event's takes name.
CREATE TABLE buckets (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  wallet_id text NOT NULL REFERENCES wallets,
  priority smallint NOT NULL DEFAULT 100,
  class text NOT NULL CHECK (class IN ('promotional', 'paid')),
  scope text[] NOT NULL DEFAULT '{}',
  effective_at timestamptz NOT NULL,
  expires_at timestamptz,
  CHECK (expires_at > effective_at),
  UNIQUE NULLS NOT DISTINCT (wallet_id, priority, class, scope, effective_at, expires_at)
);
CREATE TABLE payments (
  id text PRIMARY KEY CHECK (id ~ '^pay_[0-9a-z]{22}$'),
  environment text NOT NULL,
  subscriber_id text NOT NULL REFERENCES subscribers,
  kind text NOT NULL CHECK (kind IN ('invoice', 'top_up')),
  business_key text NOT NULL UNIQUE,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  currency text NOT NULL,
  payment_method text,
  state text NOT NULL CHECK (state IN ('pending', 'succeeded', 'declined', 'canceled', 'unknown')),
  provider_ref text UNIQUE,
  decline_code text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE grants (
  id text PRIMARY KEY CHECK (id ~ '^grant_[0-9a-z]{22}$'),
  wallet_id text NOT NULL REFERENCES wallets,
  bucket_id bigint NOT NULL REFERENCES buckets,
  business_key text NOT NULL UNIQUE,
  source text NOT NULL CHECK (source IN ('top_up', 'recurring', 'manual')),
  amount_micro bigint NOT NULL CHECK (amount_micro BETWEEN 1 AND 999999999999999),
  remaining_micro bigint NOT NULL,
  payment_id text REFERENCES payments,
  period_id text REFERENCES periods,
  cost_minor bigint NOT NULL DEFAULT 0 CHECK (cost_minor >= 0),
  currency text,
  created_at timestamptz NOT NULL DEFAULT now(),
  voided_at timestamptz,
  CHECK (remaining_micro BETWEEN 0 AND amount_micro)
);
CREATE UNIQUE INDEX one_grant_per_payment ON grants (payment_id) WHERE payment_id IS NOT NULL;
CREATE INDEX grants_by_bucket ON grants (bucket_id, created_at);
-- The gap-free log of credit changes that the shard applies in order.
CREATE TABLE core_log (
  subscriber_id text NOT NULL REFERENCES subscribers,
  seq bigint NOT NULL CHECK (seq > 0),
  verb text NOT NULL CHECK (verb IN ('grant', 'void', 'debit')),
  bucket_id bigint NOT NULL REFERENCES buckets,
  amount_micro bigint NOT NULL CHECK (amount_micro BETWEEN 0 AND 999999999999999),
  business_key text NOT NULL UNIQUE,
  taken_micro bigint,
  applied_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (subscriber_id, seq)
);
`;

const invoicing = `
CREATE TABLE invoices (
  id text PRIMARY KEY CHECK (id ~ '^inv_[0-9a-z]{22}$'),
  environment text NOT NULL,
  subscriber_id text NOT NULL REFERENCES subscribers,
  subscription_id text REFERENCES subscriptions,
  period_id text REFERENCES periods,
  kind text NOT NULL CHECK (kind IN ('period', 'change', 'threshold', 'top_up')),
  business_key text NOT NULL UNIQUE,
  state text NOT NULL CHECK (state IN ('draft', 'open', 'paid', 'void', 'uncollectible')),
  payment_status text NOT NULL DEFAULT 'none' CHECK (payment_status IN ('none', 'pending', 'succeeded', 'failed')),
  series text,
  number_in_series integer CHECK (number_in_series > 0),
  number text,
  currency text NOT NULL,
  subtotal_minor bigint NOT NULL DEFAULT 0,
  tax_minor bigint NOT NULL DEFAULT 0,
  total_minor bigint NOT NULL DEFAULT 0,
  balance_applied_minor bigint NOT NULL DEFAULT 0,
  amount_due_minor bigint NOT NULL DEFAULT 0,
  period_start_at timestamptz,
  period_end_at timestamptz,
  document jsonb NOT NULL,
  content_digest bytea,
  created_at timestamptz NOT NULL DEFAULT now(),
  finalized_at timestamptz,
  paid_at timestamptz,
  CHECK ((state = 'draft') = (finalized_at IS NULL)),
  CHECK ((finalized_at IS NULL) = (number IS NULL)),
  CHECK ((number IS NULL) = (number_in_series IS NULL)),
  UNIQUE (environment, series, number_in_series),
  UNIQUE (environment, number)
);
CREATE UNIQUE INDEX one_period_invoice ON invoices (subscription_id, period_id) WHERE kind = 'period' AND state <> 'void';
CREATE INDEX invoices_by_subscriber ON invoices (subscriber_id, created_at);
CREATE TABLE invoice_lines (
  id text PRIMARY KEY CHECK (id ~ '^line_[0-9a-z]{22}$'),
  invoice_id text NOT NULL REFERENCES invoices,
  position integer NOT NULL,
  kind text NOT NULL CHECK (kind IN ('recurring', 'usage', 'overage', 'one_time', 'adjustment', 'top_up')),
  charge_id text,
  meter_id text,
  plan_version_id text,
  description text NOT NULL,
  label text,
  quantity numeric(38,0) CHECK (quantity >= 0 AND quantity < 1e30),
  unit_price text,
  amount_minor bigint NOT NULL,
  details jsonb NOT NULL DEFAULT '{}',
  UNIQUE (invoice_id, position)
);
CREATE FUNCTION refuse_change_of_final_invoice() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE progress text[] := ARRAY['state', 'payment_status', 'paid_at'];
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF OLD.finalized_at IS NOT NULL THEN RAISE EXCEPTION 'invoice % is final and never changes', OLD.number; END IF;
    RETURN OLD;
  END IF;
  IF OLD.finalized_at IS NOT NULL AND (to_jsonb(NEW) - progress) IS DISTINCT FROM (to_jsonb(OLD) - progress) THEN
    RAISE EXCEPTION 'invoice % is final and never changes', OLD.number;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER final_invoices_are_frozen BEFORE UPDATE OR DELETE ON invoices FOR EACH ROW EXECUTE FUNCTION refuse_change_of_final_invoice();
CREATE FUNCTION refuse_change_of_final_lines() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE invoice text := CASE TG_OP WHEN 'DELETE' THEN OLD.invoice_id ELSE NEW.invoice_id END;
BEGIN
  IF EXISTS (SELECT 1 FROM invoices WHERE id = invoice AND finalized_at IS NOT NULL) THEN
    RAISE EXCEPTION 'the lines of invoice % are final and never change', invoice;
  END IF;
  RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER final_lines_are_frozen BEFORE INSERT OR UPDATE OR DELETE ON invoice_lines FOR EACH ROW EXECUTE FUNCTION refuse_change_of_final_lines();
-- The row lock on a series is what makes numbers gap-free: the number is taken in the transaction that finalizes.
CREATE TABLE invoice_series (
  environment text NOT NULL,
  series text NOT NULL,
  last_number integer NOT NULL DEFAULT 0,
  PRIMARY KEY (environment, series)
);
CREATE TABLE top_ups (
  id text PRIMARY KEY CHECK (id ~ '^top_[0-9a-z]{22}$'),
  environment text NOT NULL,
  subscriber_id text NOT NULL REFERENCES subscribers,
  wallet_id text NOT NULL REFERENCES wallets,
  business_key text NOT NULL UNIQUE,
  credits_micro bigint NOT NULL CHECK (credits_micro BETWEEN 1 AND 999999999999999),
  amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
  currency text NOT NULL,
  state text NOT NULL CHECK (state IN ('pending', 'granted', 'declined', 'failed')),
  payment_id text UNIQUE REFERENCES payments,
  invoice_id text REFERENCES invoices,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
`;

const runtime = `
CREATE TABLE shards (
  name text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,30}$'),
  url text NOT NULL,
  weight integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 0 AND 100),
  incarnation bigint NOT NULL DEFAULT 0,
  state text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'open', 'recovering')),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE slots (
  slot smallint PRIMARY KEY CHECK (slot BETWEEN 0 AND 4095),
  shard text NOT NULL REFERENCES shards,
  epoch bigint NOT NULL CHECK (epoch > 0)
);
CREATE INDEX slots_by_shard ON slots (shard);
CREATE TABLE shard_cursors (
  shard text NOT NULL REFERENCES shards,
  incarnation bigint NOT NULL,
  stream_id text NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (shard, incarnation)
);
-- Facts that the drain could not post. They never stop the others, are never dropped, and raise an alarm until resolved.
CREATE TABLE parked_facts (
  shard text NOT NULL REFERENCES shards,
  incarnation bigint NOT NULL,
  stream_id text NOT NULL,
  fact text NOT NULL,
  reason text NOT NULL,
  parked_at timestamptz NOT NULL DEFAULT now(),
  resolved_at timestamptz,
  PRIMARY KEY (shard, incarnation, stream_id)
);
CREATE INDEX parked_facts_unresolved ON parked_facts (parked_at) WHERE resolved_at IS NULL;
-- One row: versions of what every gateway copies.
CREATE TABLE runtime_versions (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  map_version bigint NOT NULL DEFAULT 1,
  catalogue_version bigint NOT NULL DEFAULT 1
);
INSERT INTO runtime_versions DEFAULT VALUES;
CREATE FUNCTION bump_catalogue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE runtime_versions SET catalogue_version = catalogue_version + 1;
  PERFORM pg_notify('tollbook_projector', 'catalogue');
  RETURN NULL;
END $$;
CREATE TRIGGER products_bump AFTER INSERT OR UPDATE OR DELETE ON products FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue();
CREATE TRIGGER routes_bump AFTER INSERT OR UPDATE OR DELETE ON routes FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue();
CREATE TRIGGER meters_bump AFTER INSERT OR UPDATE OR DELETE ON meters FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue();
CREATE TRIGGER features_bump AFTER INSERT OR UPDATE OR DELETE ON features FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue();
CREATE FUNCTION bump_map() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE runtime_versions SET map_version = map_version + 1;
  PERFORM pg_notify('tollbook_projector', 'map');
  RETURN NULL;
END $$;
CREATE TRIGGER slots_bump AFTER INSERT OR UPDATE OR DELETE ON slots FOR EACH STATEMENT EXECUTE FUNCTION bump_map();
CREATE TRIGGER shards_bump AFTER INSERT OR UPDATE OR DELETE ON shards FOR EACH STATEMENT EXECUTE FUNCTION bump_map();
CREATE FUNCTION notify_projector() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('tollbook_projector', NEW.id);
  RETURN NULL;
END $$;
CREATE TRIGGER subscribers_notify AFTER INSERT OR UPDATE OF runtime_version, core_seq ON subscribers
  FOR EACH ROW EXECUTE FUNCTION notify_projector();

CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic text NOT NULL,
  business_key text NOT NULL UNIQUE,
  payload jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  delivered_at timestamptz
);
CREATE INDEX outbox_undelivered ON outbox (id) WHERE delivered_at IS NULL;
CREATE TABLE webhook_events (
  provider text NOT NULL,
  event_id text NOT NULL,
  payload jsonb NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (provider, event_id)
);
CREATE TABLE audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  environment text,
  actor text NOT NULL,
  action text NOT NULL,
  object_id text,
  request_id text,
  details jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();
CREATE TABLE service_tokens (
  id text PRIMARY KEY CHECK (id ~ '^tok_[0-9a-z]{22}$'),
  name text NOT NULL,
  environment text NOT NULL CHECK (environment IN ('test', 'live')),
  role text NOT NULL CHECK (role IN ('admin', 'operator', 'reader', 'ingest')),
  digest bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  revoked_at timestamptz
);
CREATE TABLE idempotency_keys (
  token_id text NOT NULL REFERENCES service_tokens,
  key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  request_digest bytea NOT NULL,
  status smallint,
  response jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (token_id, key)
);
`;

export async function up(knex: Knex): Promise<void> {
  for (const part of [catalogue, subscribers, usage, ledger, invoicing, runtime]) {
    await knex.raw(part);
  }
}

/** Migrations only go forward: a release is undone by the next migration, never by losing rows. */
export async function down(): Promise<void> {
  throw new Error('migrations are not reversed: write the next one');
}
