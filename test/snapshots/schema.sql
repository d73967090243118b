TABLE accounts
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
  environment text NOT NULL
  asset text NOT NULL
  kind text NOT NULL
  subscriber_id text
  CONSTRAINT accounts_asset_check CHECK ((asset ~ '^([A-Z]{3}|credit:[a-z][a-z0-9_]{0,62})$'::text))
  CONSTRAINT accounts_environment_asset_kind_subscriber_id_key UNIQUE NULLS NOT DISTINCT (environment, asset, kind, subscriber_id)
  CONSTRAINT accounts_kind_check CHECK ((kind = ANY (ARRAY['world'::text, 'available'::text, 'spent'::text, 'expired'::text, 'refunded'::text, 'receivable'::text, 'revenue'::text, 'tax_payable'::text, 'cash'::text, 'deferred_revenue'::text, 'account_balance'::text, 'bad_debt'::text, 'refund_payable'::text])))
  CONSTRAINT accounts_pkey PRIMARY KEY (id)
  CONSTRAINT accounts_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)

TABLE add_ons
  id text NOT NULL
  environment text NOT NULL
  product_id text NOT NULL
  lookup_id text NOT NULL
  name text NOT NULL
  type text NOT NULL
  amount_minor bigint NOT NULL
  currency text NOT NULL
  tax_rate_ids text[] NOT NULL DEFAULT '{}'::text[]
  created_at timestamp with time zone NOT NULL DEFAULT now()
  archived_at timestamp with time zone
  CONSTRAINT add_ons_amount_minor_check CHECK ((amount_minor >= 0))
  CONSTRAINT add_ons_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
  CONSTRAINT add_ons_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT add_ons_environment_lookup_id_key UNIQUE (environment, lookup_id)
  CONSTRAINT add_ons_id_check CHECK ((id ~ '^add_[0-9a-z]{22}$'::text))
  CONSTRAINT add_ons_lookup_id_check CHECK ((lookup_id ~ '^[a-z][a-z0-9_-]{0,62}$'::text))
  CONSTRAINT add_ons_pkey PRIMARY KEY (id)
  CONSTRAINT add_ons_product_id_fkey FOREIGN KEY (product_id) REFERENCES products(id)
  CONSTRAINT add_ons_type_check CHECK ((type = ANY (ARRAY['RECURRING'::text, 'ONE_TIME'::text])))

TABLE api_keys
  id text NOT NULL
  environment text NOT NULL
  subscriber_id text NOT NULL
  name text NOT NULL DEFAULT ''::text
  digest bytea NOT NULL
  last4 text NOT NULL
  product_ids text[] NOT NULL DEFAULT '{}'::text[]
  expires_at timestamp with time zone
  revoked_at timestamp with time zone
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT api_keys_digest_check CHECK ((octet_length(digest) = 32))
  CONSTRAINT api_keys_digest_key UNIQUE (digest)
  CONSTRAINT api_keys_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT api_keys_id_check CHECK ((id ~ '^key_[0-9a-z]{22}$'::text))
  CONSTRAINT api_keys_last4_check CHECK ((length(last4) = 4))
  CONSTRAINT api_keys_pkey PRIMARY KEY (id)
  CONSTRAINT api_keys_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)
  CREATE INDEX api_keys_by_subscriber ON public.api_keys USING btree (subscriber_id)

TABLE audit_log
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
  environment text
  actor text NOT NULL
  action text NOT NULL
  object_id text
  request_id text
  details jsonb NOT NULL DEFAULT '{}'::jsonb
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT audit_log_pkey PRIMARY KEY (id)
  CREATE TRIGGER audit_log_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()

TABLE buckets
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
  wallet_id text NOT NULL
  priority smallint NOT NULL DEFAULT 100
  class text NOT NULL
  scope text[] NOT NULL DEFAULT '{}'::text[]
  effective_at timestamp with time zone NOT NULL
  expires_at timestamp with time zone
  CONSTRAINT buckets_check CHECK ((expires_at > effective_at))
  CONSTRAINT buckets_class_check CHECK ((class = ANY (ARRAY['promotional'::text, 'paid'::text])))
  CONSTRAINT buckets_pkey PRIMARY KEY (id)
  CONSTRAINT buckets_wallet_id_fkey FOREIGN KEY (wallet_id) REFERENCES wallets(id)
  CONSTRAINT buckets_wallet_id_priority_class_scope_effective_at_expires_key UNIQUE NULLS NOT DISTINCT (wallet_id, priority, class, scope, effective_at, expires_at)

TABLE charges
  id text NOT NULL
  plan_version_id text NOT NULL
  position integer NOT NULL
  type text NOT NULL
  meter_id text
  display_name text NOT NULL
  price jsonb
  included_units bigint NOT NULL DEFAULT 0
  bill_in text NOT NULL DEFAULT 'arrears'::text
  created_at timestamp with time zone NOT NULL DEFAULT now()
  minimum_minor bigint
  maximum_minor bigint
  tax_rate_ids text[] NOT NULL DEFAULT '{}'::text[]
  CONSTRAINT charges_bill_in_check CHECK ((bill_in = ANY (ARRAY['advance'::text, 'arrears'::text])))
  CONSTRAINT charges_check CHECK (((type = 'USAGE'::text) = (meter_id IS NOT NULL)))
  CONSTRAINT charges_check1 CHECK ((maximum_minor >= minimum_minor))
  CONSTRAINT charges_check2 CHECK (((type = 'USAGE'::text) OR ((minimum_minor IS NULL) AND (maximum_minor IS NULL))))
  CONSTRAINT charges_id_check CHECK ((id ~ '^chg_[0-9a-z]{22}$'::text))
  CONSTRAINT charges_included_units_check CHECK (((included_units >= 0) AND (included_units <= '999999999999999'::bigint)))
  CONSTRAINT charges_maximum_minor_check CHECK ((maximum_minor >= 0))
  CONSTRAINT charges_meter_id_fkey FOREIGN KEY (meter_id) REFERENCES meters(id)
  CONSTRAINT charges_minimum_minor_check CHECK ((minimum_minor > 0))
  CONSTRAINT charges_pkey PRIMARY KEY (id)
  CONSTRAINT charges_plan_version_id_fkey FOREIGN KEY (plan_version_id) REFERENCES plan_versions(id)
  CONSTRAINT charges_plan_version_id_position_key UNIQUE (plan_version_id, "position")
  CONSTRAINT charges_type_check CHECK ((type = ANY (ARRAY['RECURRING'::text, 'USAGE'::text, 'ONE_TIME'::text])))
  CREATE TRIGGER published_charges_are_frozen BEFORE INSERT OR DELETE OR UPDATE ON public.charges FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_parts()

TABLE core_log
  subscriber_id text NOT NULL
  seq bigint NOT NULL
  verb text NOT NULL
  bucket_id bigint NOT NULL
  amount_micro bigint NOT NULL
  business_key text NOT NULL
  taken_micro bigint
  applied_at timestamp with time zone
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT core_log_amount_micro_check CHECK (((amount_micro >= 0) AND (amount_micro <= '999999999999999'::bigint)))
  CONSTRAINT core_log_bucket_id_fkey FOREIGN KEY (bucket_id) REFERENCES buckets(id)
  CONSTRAINT core_log_business_key_key UNIQUE (business_key)
  CONSTRAINT core_log_pkey PRIMARY KEY (subscriber_id, seq)
  CONSTRAINT core_log_seq_check CHECK ((seq > 0))
  CONSTRAINT core_log_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)
  CONSTRAINT core_log_verb_check CHECK ((verb = ANY (ARRAY['grant'::text, 'void'::text, 'debit'::text])))

TABLE coupon_uses
  subscription_coupon_id text NOT NULL
  invoice_id text NOT NULL
  interval_index integer NOT NULL
  amount_minor bigint NOT NULL
  CONSTRAINT coupon_uses_amount_minor_check CHECK ((amount_minor >= 0))
  CONSTRAINT coupon_uses_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES invoices(id)
  CONSTRAINT coupon_uses_pkey PRIMARY KEY (subscription_coupon_id, invoice_id, interval_index)
  CONSTRAINT coupon_uses_subscription_coupon_id_fkey FOREIGN KEY (subscription_coupon_id) REFERENCES subscription_coupons(id)
  CREATE INDEX coupon_uses_by_invoice ON public.coupon_uses USING btree (invoice_id)

TABLE coupons
  id text NOT NULL
  environment text NOT NULL
  lookup_id text NOT NULL
  name text NOT NULL
  percent text
  amount_minor bigint
  currency text
  applies_to text NOT NULL DEFAULT 'invoice'::text
  meter_ids text[] NOT NULL DEFAULT '{}'::text[]
  duration text NOT NULL DEFAULT 'once'::text
  duration_intervals integer
  max_redemptions integer
  redeem_by timestamp with time zone
  created_at timestamp with time zone NOT NULL DEFAULT now()
  archived_at timestamp with time zone
  CONSTRAINT coupons_amount_minor_check CHECK ((amount_minor > 0))
  CONSTRAINT coupons_applies_to_check CHECK ((applies_to = ANY (ARRAY['invoice'::text, 'fees'::text, 'meters'::text])))
  CONSTRAINT coupons_check CHECK (((percent IS NULL) <> (amount_minor IS NULL)))
  CONSTRAINT coupons_check1 CHECK (((amount_minor IS NULL) = (currency IS NULL)))
  CONSTRAINT coupons_check2 CHECK (((duration = 'repeating'::text) = (duration_intervals IS NOT NULL)))
  CONSTRAINT coupons_check3 CHECK (((applies_to = 'meters'::text) = (cardinality(meter_ids) > 0)))
  CONSTRAINT coupons_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
  CONSTRAINT coupons_duration_check CHECK ((duration = ANY (ARRAY['once'::text, 'repeating'::text, 'forever'::text])))
  CONSTRAINT coupons_duration_intervals_check CHECK (((duration_intervals >= 1) AND (duration_intervals <= 1000)))
  CONSTRAINT coupons_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT coupons_environment_lookup_id_key UNIQUE (environment, lookup_id)
  CONSTRAINT coupons_id_check CHECK ((id ~ '^cpn_[0-9a-z]{22}$'::text))
  CONSTRAINT coupons_lookup_id_check CHECK ((lookup_id ~ '^[A-Za-z][A-Za-z0-9_-]{0,62}$'::text))
  CONSTRAINT coupons_max_redemptions_check CHECK ((max_redemptions > 0))
  CONSTRAINT coupons_percent_check CHECK (((percent ~ '^(0|[1-9][0-9]{0,2})(\.[0-9]{1,6})?$'::text) AND (((percent)::numeric >= 0.000001) AND ((percent)::numeric <= (100)::numeric))))
  CONSTRAINT coupons_pkey PRIMARY KEY (id)

TABLE credit_note_lines
  credit_note_id text NOT NULL
  position integer NOT NULL
  invoice_line_id text NOT NULL
  description text NOT NULL
  amount_minor bigint NOT NULL
  discount_minor bigint NOT NULL
  CONSTRAINT credit_note_lines_amount_minor_check CHECK ((amount_minor <> 0))
  CONSTRAINT credit_note_lines_credit_note_id_fkey FOREIGN KEY (credit_note_id) REFERENCES credit_notes(id)
  CONSTRAINT credit_note_lines_invoice_line_id_fkey FOREIGN KEY (invoice_line_id) REFERENCES invoice_lines(id)
  CONSTRAINT credit_note_lines_pkey PRIMARY KEY (credit_note_id, "position")
  CREATE INDEX credit_note_lines_by_line ON public.credit_note_lines USING btree (invoice_line_id)
  CREATE TRIGGER credit_note_lines_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.credit_note_lines FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()

TABLE credit_notes
  id text NOT NULL
  environment text NOT NULL
  invoice_id text NOT NULL
  subscriber_id text NOT NULL
  business_key text NOT NULL
  series text NOT NULL
  number_in_series integer NOT NULL
  number text NOT NULL
  reason text NOT NULL
  memo text
  currency text NOT NULL
  subtotal_minor bigint NOT NULL
  discount_minor bigint NOT NULL
  tax_minor bigint NOT NULL
  total_minor bigint NOT NULL
  due_reduced_minor bigint NOT NULL
  balance_minor bigint NOT NULL
  refund_minor bigint NOT NULL
  document jsonb NOT NULL
  actor text NOT NULL
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT credit_notes_balance_minor_check CHECK ((balance_minor >= 0))
  CONSTRAINT credit_notes_business_key_key UNIQUE (business_key)
  CONSTRAINT credit_notes_check CHECK ((total_minor = ((due_reduced_minor + balance_minor) + refund_minor)))
  CONSTRAINT credit_notes_due_reduced_minor_check CHECK ((due_reduced_minor >= 0))
  CONSTRAINT credit_notes_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT credit_notes_environment_number_key UNIQUE (environment, number)
  CONSTRAINT credit_notes_environment_series_number_in_series_key UNIQUE (environment, series, number_in_series)
  CONSTRAINT credit_notes_id_check CHECK ((id ~ '^cn_[0-9a-z]{22}$'::text))
  CONSTRAINT credit_notes_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES invoices(id)
  CONSTRAINT credit_notes_number_in_series_check CHECK ((number_in_series > 0))
  CONSTRAINT credit_notes_pkey PRIMARY KEY (id)
  CONSTRAINT credit_notes_reason_check CHECK ((reason = ANY (ARRAY['duplicate'::text, 'mistake'::text, 'service_issue'::text, 'goodwill'::text, 'cancellation'::text, 'other'::text])))
  CONSTRAINT credit_notes_refund_minor_check CHECK ((refund_minor >= 0))
  CONSTRAINT credit_notes_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)
  CONSTRAINT credit_notes_total_minor_check CHECK ((total_minor > 0))
  CREATE INDEX credit_notes_by_invoice ON public.credit_notes USING btree (invoice_id)
  CREATE INDEX credit_notes_by_subscriber ON public.credit_notes USING btree (subscriber_id, created_at)
  CREATE TRIGGER credit_notes_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.credit_notes FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()

TABLE credit_rollups
  subscription_id text NOT NULL
  segment_id bigint NOT NULL
  hour timestamp with time zone NOT NULL
  adjusts_period_id text NOT NULL DEFAULT ''::text
  event_count bigint NOT NULL
  credits_micro numeric(38,0) NOT NULL
  overage_micro numeric(38,0) NOT NULL
  written_off_micro numeric(38,0) NOT NULL
  CONSTRAINT credit_rollups_credits_micro_check CHECK (((credits_micro >= (0)::numeric) AND (credits_micro < '1000000000000000000000000000000'::numeric)))
  CONSTRAINT credit_rollups_event_count_check CHECK ((event_count > 0))
  CONSTRAINT credit_rollups_overage_micro_check CHECK (((overage_micro >= (0)::numeric) AND (overage_micro < '1000000000000000000000000000000'::numeric)))
  CONSTRAINT credit_rollups_pkey PRIMARY KEY (subscription_id, segment_id, hour, adjusts_period_id)
  CONSTRAINT credit_rollups_segment_id_fkey FOREIGN KEY (segment_id) REFERENCES segments(id)
  CONSTRAINT credit_rollups_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
  CONSTRAINT credit_rollups_written_off_micro_check CHECK (((written_off_micro >= (0)::numeric) AND (written_off_micro < '1000000000000000000000000000000'::numeric)))

TABLE external_events
  environment text NOT NULL
  source text NOT NULL
  id text NOT NULL
  op_id text NOT NULL
  subscriber_id text NOT NULL
  body_digest bytea NOT NULL
  body jsonb NOT NULL
  counted boolean NOT NULL DEFAULT false
  result jsonb
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT external_events_id_check CHECK (((length(id) >= 1) AND (length(id) <= 200)))
  CONSTRAINT external_events_op_id_key UNIQUE (op_id)
  CONSTRAINT external_events_pkey PRIMARY KEY (environment, source, id)
  CONSTRAINT external_events_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)
  CREATE INDEX external_events_uncounted ON public.external_events USING btree (created_at) WHERE (NOT counted)

TABLE features
  id text NOT NULL
  environment text NOT NULL
  lookup_id text NOT NULL
  name text NOT NULL
  meter_id text
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT features_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT features_environment_lookup_id_key UNIQUE (environment, lookup_id)
  CONSTRAINT features_id_check CHECK ((id ~ '^feat_[0-9a-z]{22}$'::text))
  CONSTRAINT features_lookup_id_check CHECK ((lookup_id ~ '^[a-z][a-z0-9_]{1,62}$'::text))
  CONSTRAINT features_meter_id_fkey FOREIGN KEY (meter_id) REFERENCES meters(id)
  CONSTRAINT features_pkey PRIMARY KEY (id)
  CREATE TRIGGER features_bump AFTER INSERT OR DELETE OR UPDATE ON public.features FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue()

TABLE grants
  id text NOT NULL
  wallet_id text NOT NULL
  bucket_id bigint NOT NULL
  business_key text NOT NULL
  source text NOT NULL
  amount_micro bigint NOT NULL
  remaining_micro bigint NOT NULL
  payment_id text
  period_id text
  cost_minor bigint NOT NULL DEFAULT 0
  currency text
  created_at timestamp with time zone NOT NULL DEFAULT now()
  voided_at timestamp with time zone
  CONSTRAINT grants_amount_micro_check CHECK (((amount_micro >= 1) AND (amount_micro <= '999999999999999'::bigint)))
  CONSTRAINT grants_bucket_id_fkey FOREIGN KEY (bucket_id) REFERENCES buckets(id)
  CONSTRAINT grants_business_key_key UNIQUE (business_key)
  CONSTRAINT grants_check CHECK (((remaining_micro >= 0) AND (remaining_micro <= amount_micro)))
  CONSTRAINT grants_cost_minor_check CHECK ((cost_minor >= 0))
  CONSTRAINT grants_id_check CHECK ((id ~ '^grant_[0-9a-z]{22}$'::text))
  CONSTRAINT grants_payment_id_fkey FOREIGN KEY (payment_id) REFERENCES payments(id)
  CONSTRAINT grants_period_id_fkey FOREIGN KEY (period_id) REFERENCES periods(id)
  CONSTRAINT grants_pkey PRIMARY KEY (id)
  CONSTRAINT grants_source_check CHECK ((source = ANY (ARRAY['top_up'::text, 'recurring'::text, 'manual'::text])))
  CONSTRAINT grants_wallet_id_fkey FOREIGN KEY (wallet_id) REFERENCES wallets(id)
  CREATE INDEX grants_by_bucket ON public.grants USING btree (bucket_id, created_at)
  CREATE UNIQUE INDEX one_grant_per_payment ON public.grants USING btree (payment_id) WHERE (payment_id IS NOT NULL)

TABLE idempotency_keys
  token_id text NOT NULL
  key text NOT NULL
  request_digest bytea NOT NULL
  status smallint
  response jsonb
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT idempotency_keys_key_check CHECK (((length(key) >= 1) AND (length(key) <= 255)))
  CONSTRAINT idempotency_keys_pkey PRIMARY KEY (token_id, key)
  CONSTRAINT idempotency_keys_token_id_fkey FOREIGN KEY (token_id) REFERENCES service_tokens(id)

TABLE invoice_lines
  id text NOT NULL
  invoice_id text NOT NULL
  position integer NOT NULL
  kind text NOT NULL
  charge_id text
  meter_id text
  plan_version_id text
  description text NOT NULL
  label text
  quantity numeric(38,0)
  unit_price text
  amount_minor bigint NOT NULL
  details jsonb NOT NULL DEFAULT '{}'::jsonb
  discount_minor bigint NOT NULL DEFAULT 0
  covers_start_at timestamp with time zone
  covers_end_at timestamp with time zone
  CONSTRAINT invoice_lines_check CHECK ((covers_end_at > covers_start_at))
  CONSTRAINT invoice_lines_check1 CHECK (((covers_start_at IS NULL) = (covers_end_at IS NULL)))
  CONSTRAINT invoice_lines_discount_minor_check CHECK ((discount_minor >= 0))
  CONSTRAINT invoice_lines_id_check CHECK ((id ~ '^line_[0-9a-z]{22}$'::text))
  CONSTRAINT invoice_lines_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES invoices(id)
  CONSTRAINT invoice_lines_invoice_id_position_key UNIQUE (invoice_id, "position")
  CONSTRAINT invoice_lines_kind_check CHECK ((kind = ANY (ARRAY['recurring'::text, 'usage'::text, 'overage'::text, 'one_time'::text, 'adjustment'::text, 'top_up'::text])))
  CONSTRAINT invoice_lines_pkey PRIMARY KEY (id)
  CONSTRAINT invoice_lines_quantity_check CHECK (((quantity > '-1000000000000000000000000000000'::numeric) AND (quantity < '1000000000000000000000000000000'::numeric)))
  CREATE TRIGGER final_lines_are_frozen BEFORE INSERT OR DELETE OR UPDATE ON public.invoice_lines FOR EACH ROW EXECUTE FUNCTION refuse_change_of_final_lines()

TABLE invoice_series
  environment text NOT NULL
  series text NOT NULL
  last_number integer NOT NULL DEFAULT 0
  CONSTRAINT invoice_series_pkey PRIMARY KEY (environment, series)

TABLE invoices
  id text NOT NULL
  environment text NOT NULL
  subscriber_id text NOT NULL
  subscription_id text
  period_id text
  kind text NOT NULL
  business_key text NOT NULL
  state text NOT NULL
  payment_status text NOT NULL DEFAULT 'none'::text
  series text
  number_in_series integer
  number text
  currency text NOT NULL
  subtotal_minor bigint NOT NULL DEFAULT 0
  tax_minor bigint NOT NULL DEFAULT 0
  total_minor bigint NOT NULL DEFAULT 0
  balance_applied_minor bigint NOT NULL DEFAULT 0
  amount_due_minor bigint NOT NULL DEFAULT 0
  period_start_at timestamp with time zone
  period_end_at timestamp with time zone
  document jsonb NOT NULL
  content_digest bytea
  created_at timestamp with time zone NOT NULL DEFAULT now()
  finalized_at timestamp with time zone
  paid_at timestamp with time zone
  discount_minor bigint NOT NULL DEFAULT 0
  tax_included boolean NOT NULL DEFAULT false
  interval_index integer
  finalize_at timestamp with time zone
  reissue_of text
  paid_by text
  paid_reference text
  voided_at timestamp with time zone
  void_reason text
  given_up_at timestamp with time zone
  CONSTRAINT invoices_business_key_key UNIQUE (business_key)
  CONSTRAINT invoices_check CHECK (((state = 'draft'::text) = (finalized_at IS NULL)))
  CONSTRAINT invoices_check1 CHECK (((finalized_at IS NULL) = (number IS NULL)))
  CONSTRAINT invoices_check2 CHECK (((number IS NULL) = (number_in_series IS NULL)))
  CONSTRAINT invoices_check3 CHECK (((state = 'void'::text) = (voided_at IS NOT NULL)))
  CONSTRAINT invoices_discount_minor_check CHECK ((discount_minor >= 0))
  CONSTRAINT invoices_environment_number_key UNIQUE (environment, number)
  CONSTRAINT invoices_environment_series_number_in_series_key UNIQUE (environment, series, number_in_series)
  CONSTRAINT invoices_id_check CHECK ((id ~ '^inv_[0-9a-z]{22}$'::text))
  CONSTRAINT invoices_kind_check CHECK ((kind = ANY (ARRAY['period'::text, 'advance'::text, 'change'::text, 'threshold'::text, 'late'::text, 'top_up'::text])))
  CONSTRAINT invoices_number_in_series_check CHECK ((number_in_series > 0))
  CONSTRAINT invoices_paid_by_check CHECK ((paid_by = ANY (ARRAY['payment'::text, 'out_of_band'::text, 'nothing_due'::text])))
  CONSTRAINT invoices_payment_status_check CHECK ((payment_status = ANY (ARRAY['none'::text, 'pending'::text, 'succeeded'::text, 'failed'::text])))
  CONSTRAINT invoices_period_id_fkey FOREIGN KEY (period_id) REFERENCES periods(id)
  CONSTRAINT invoices_pkey PRIMARY KEY (id)
  CONSTRAINT invoices_reissue_of_fkey FOREIGN KEY (reissue_of) REFERENCES invoices(id)
  CONSTRAINT invoices_state_check CHECK ((state = ANY (ARRAY['draft'::text, 'open'::text, 'paid'::text, 'void'::text, 'uncollectible'::text])))
  CONSTRAINT invoices_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)
  CONSTRAINT invoices_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
  CREATE INDEX invoices_by_period ON public.invoices USING btree (period_id) WHERE (kind = ANY (ARRAY['period'::text, 'late'::text]))
  CREATE INDEX invoices_by_subscriber ON public.invoices USING btree (subscriber_id, created_at)
  CREATE INDEX invoices_by_subscription ON public.invoices USING btree (subscription_id, created_at) WHERE (subscription_id IS NOT NULL)
  CREATE UNIQUE INDEX one_late_invoice ON public.invoices USING btree (subscription_id, period_id) WHERE ((kind = 'late'::text) AND (state <> 'void'::text))
  CREATE UNIQUE INDEX one_period_invoice ON public.invoices USING btree (subscription_id, period_id) WHERE ((kind = 'period'::text) AND (state <> 'void'::text))
  CREATE UNIQUE INDEX one_reissue ON public.invoices USING btree (reissue_of) WHERE (reissue_of IS NOT NULL)
  CREATE TRIGGER final_invoices_are_frozen BEFORE DELETE OR UPDATE ON public.invoices FOR EACH ROW EXECUTE FUNCTION refuse_change_of_final_invoice()

TABLE ledger_entries
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
  txn_id bigint NOT NULL
  account_id bigint NOT NULL
  amount bigint NOT NULL
  CONSTRAINT ledger_entries_account_id_fkey FOREIGN KEY (account_id) REFERENCES accounts(id)
  CONSTRAINT ledger_entries_amount_check CHECK (((amount <> 0) AND ((amount >= '-1000000000000000'::bigint) AND (amount <= '1000000000000000'::bigint))))
  CONSTRAINT ledger_entries_pkey PRIMARY KEY (id)
  CONSTRAINT ledger_entries_txn_id_fkey FOREIGN KEY (txn_id) REFERENCES ledger_txns(id)
  CREATE INDEX ledger_entries_by_account ON public.ledger_entries USING btree (account_id, id)
  CREATE INDEX ledger_entries_by_txn ON public.ledger_entries USING btree (txn_id)
  CREATE TRIGGER entries_sum_to_zero AFTER INSERT ON public.ledger_entries REFERENCING NEW TABLE AS posted FOR EACH STATEMENT EXECUTE FUNCTION require_zero_sum()
  CREATE TRIGGER ledger_entries_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.ledger_entries FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()

TABLE ledger_txns
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
  environment text NOT NULL
  kind text NOT NULL
  business_key text NOT NULL
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT ledger_txns_business_key_key UNIQUE (business_key)
  CONSTRAINT ledger_txns_pkey PRIMARY KEY (id)
  CREATE TRIGGER ledger_txns_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.ledger_txns FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()
  CREATE CONSTRAINT TRIGGER txns_have_entries AFTER INSERT ON public.ledger_txns DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION require_entries()

TABLE meters
  id text NOT NULL
  environment text NOT NULL
  lookup_id text NOT NULL
  name text NOT NULL
  unit_one text NOT NULL
  unit_other text NOT NULL
  scale smallint NOT NULL DEFAULT 0
  aggregation text NOT NULL
  usage_pricing_rules jsonb
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT meters_aggregation_check CHECK ((aggregation = ANY (ARRAY['SUM'::text, 'COUNT'::text, 'MAX'::text, 'LATEST'::text, 'UNIQUE_COUNT'::text, 'WEIGHTED_SUM'::text])))
  CONSTRAINT meters_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT meters_environment_lookup_id_key UNIQUE (environment, lookup_id)
  CONSTRAINT meters_id_check CHECK ((id ~ '^mtr_[0-9a-z]{22}$'::text))
  CONSTRAINT meters_lookup_id_check CHECK ((lookup_id ~ '^[a-z][a-z0-9_]{1,62}$'::text))
  CONSTRAINT meters_pkey PRIMARY KEY (id)
  CONSTRAINT meters_scale_check CHECK (((scale >= 0) AND (scale <= 9)))
  CREATE TRIGGER meters_bump AFTER INSERT OR DELETE OR UPDATE ON public.meters FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue()

TABLE operator_settings
  environment text NOT NULL
  name text
  address text
  email text
  tax_id text
  footer text
  locale text NOT NULL DEFAULT 'en-US'::text
  draft_grace_ms bigint NOT NULL DEFAULT 0
  tax_rate_ids text[] NOT NULL DEFAULT '{}'::text[]
  updated_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT operator_settings_draft_grace_ms_check CHECK (((draft_grace_ms >= 0) AND (draft_grace_ms <= '3024000000'::bigint)))
  CONSTRAINT operator_settings_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT operator_settings_pkey PRIMARY KEY (environment)

TABLE outbox
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
  topic text NOT NULL
  business_key text NOT NULL
  payload jsonb NOT NULL
  created_at timestamp with time zone NOT NULL DEFAULT now()
  delivered_at timestamp with time zone
  CONSTRAINT outbox_business_key_key UNIQUE (business_key)
  CONSTRAINT outbox_pkey PRIMARY KEY (id)
  CREATE INDEX outbox_undelivered ON public.outbox USING btree (id) WHERE (delivered_at IS NULL)

TABLE parked_facts
  shard text NOT NULL
  incarnation bigint NOT NULL
  stream_id text NOT NULL
  fact text NOT NULL
  reason text NOT NULL
  parked_at timestamp with time zone NOT NULL DEFAULT now()
  resolved_at timestamp with time zone
  CONSTRAINT parked_facts_pkey PRIMARY KEY (shard, incarnation, stream_id)
  CONSTRAINT parked_facts_shard_fkey FOREIGN KEY (shard) REFERENCES shards(name)
  CREATE INDEX parked_facts_unresolved ON public.parked_facts USING btree (parked_at) WHERE (resolved_at IS NULL)

TABLE payments
  id text NOT NULL
  environment text NOT NULL
  subscriber_id text NOT NULL
  kind text NOT NULL
  business_key text NOT NULL
  amount_minor bigint NOT NULL
  currency text NOT NULL
  payment_method text
  state text NOT NULL
  provider_ref text
  decline_code text
  created_at timestamp with time zone NOT NULL DEFAULT now()
  updated_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT payments_amount_minor_check CHECK ((amount_minor > 0))
  CONSTRAINT payments_business_key_key UNIQUE (business_key)
  CONSTRAINT payments_id_check CHECK ((id ~ '^pay_[0-9a-z]{22}$'::text))
  CONSTRAINT payments_kind_check CHECK ((kind = ANY (ARRAY['invoice'::text, 'top_up'::text])))
  CONSTRAINT payments_pkey PRIMARY KEY (id)
  CONSTRAINT payments_provider_ref_key UNIQUE (provider_ref)
  CONSTRAINT payments_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'succeeded'::text, 'declined'::text, 'canceled'::text, 'unknown'::text])))
  CONSTRAINT payments_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)
  CREATE INDEX payments_by_subscriber ON public.payments USING btree (subscriber_id, created_at)

TABLE periods
  id text NOT NULL
  subscription_id text NOT NULL
  seq integer NOT NULL
  interval_index integer NOT NULL
  interval_start_at timestamp with time zone NOT NULL
  interval_end_at timestamp with time zone NOT NULL
  start_at timestamp with time zone NOT NULL
  end_at timestamp with time zone NOT NULL
  state text NOT NULL DEFAULT 'scheduled'::text
  sealed_shard text
  sealed_incarnation bigint
  sealed_stream_id text
  closed_at timestamp with time zone
  cut_reason text
  finalize_at timestamp with time zone
  is_late boolean NOT NULL DEFAULT false
  CONSTRAINT periods_check CHECK (
CASE
    WHEN is_late THEN (end_at = start_at)
    ELSE (end_at > start_at)
END)
  CONSTRAINT periods_check1 CHECK (((start_at >= interval_start_at) AND (end_at <= interval_end_at)))
  CONSTRAINT periods_check2 CHECK (((state = 'closed'::text) = (closed_at IS NOT NULL)))
  CONSTRAINT periods_cut_reason_check CHECK ((cut_reason = ANY (ARRAY['close_now'::text, 'threshold'::text, 'interval_change'::text, 'cancel'::text])))
  CONSTRAINT periods_id_check CHECK ((id ~ '^per_[0-9a-z]{22}$'::text))
  CONSTRAINT periods_interval_index_check CHECK ((interval_index >= 0))
  CONSTRAINT periods_late_state CHECK (((NOT is_late) OR (state = ANY (ARRAY['open'::text, 'closed'::text]))))
  CONSTRAINT periods_never_overlap EXCLUDE USING gist (subscription_id WITH =, tstzrange(start_at, end_at, '[)'::text) WITH &&) WHERE ((state <> 'void'::text))
  CONSTRAINT periods_pkey PRIMARY KEY (id)
  CONSTRAINT periods_seq_check CHECK ((seq >= 0))
  CONSTRAINT periods_state_check CHECK ((state = ANY (ARRAY['scheduled'::text, 'open'::text, 'closing'::text, 'closed'::text, 'void'::text])))
  CONSTRAINT periods_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
  CONSTRAINT periods_subscription_id_seq_key UNIQUE (subscription_id, seq)
  CREATE UNIQUE INDEX one_open_late_period ON public.periods USING btree (subscription_id) WHERE (is_late AND (state = 'open'::text))
  CREATE INDEX periods_by_state ON public.periods USING btree (state, end_at) WHERE (state = ANY (ARRAY['open'::text, 'closing'::text]))

TABLE plan_changes
  id text NOT NULL
  environment text NOT NULL
  subscription_id text NOT NULL
  from_version_id text NOT NULL
  to_version_id text NOT NULL
  timing text NOT NULL
  resets_interval boolean NOT NULL DEFAULT false
  effective_at timestamp with time zone NOT NULL
  state text NOT NULL
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT plan_changes_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT plan_changes_from_version_id_fkey FOREIGN KEY (from_version_id) REFERENCES plan_versions(id)
  CONSTRAINT plan_changes_id_check CHECK ((id ~ '^pch_[0-9a-z]{22}$'::text))
  CONSTRAINT plan_changes_pkey PRIMARY KEY (id)
  CONSTRAINT plan_changes_state_check CHECK ((state = ANY (ARRAY['scheduled'::text, 'applied'::text, 'canceled'::text])))
  CONSTRAINT plan_changes_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
  CONSTRAINT plan_changes_timing_check CHECK ((timing = ANY (ARRAY['now'::text, 'period_end'::text])))
  CONSTRAINT plan_changes_to_version_id_fkey FOREIGN KEY (to_version_id) REFERENCES plan_versions(id)
  CREATE UNIQUE INDEX one_scheduled_plan_change ON public.plan_changes USING btree (subscription_id) WHERE (state = 'scheduled'::text)
  CREATE INDEX plan_changes_by_subscription ON public.plan_changes USING btree (subscription_id, effective_at)

TABLE plan_features
  plan_version_id text NOT NULL
  feature_id text NOT NULL
  limit bigint
  limit_type text NOT NULL DEFAULT 'HARD'::text
  reset_interval text NOT NULL DEFAULT 'period'::text
  CONSTRAINT plan_features_feature_id_fkey FOREIGN KEY (feature_id) REFERENCES features(id)
  CONSTRAINT plan_features_limit_check CHECK ((("limit" >= 0) AND ("limit" <= '999999999999999'::bigint)))
  CONSTRAINT plan_features_limit_type_check CHECK ((limit_type = ANY (ARRAY['HARD'::text, 'SOFT'::text])))
  CONSTRAINT plan_features_pkey PRIMARY KEY (plan_version_id, feature_id)
  CONSTRAINT plan_features_plan_version_id_fkey FOREIGN KEY (plan_version_id) REFERENCES plan_versions(id)
  CONSTRAINT plan_features_reset_interval_check CHECK ((reset_interval = ANY (ARRAY['hour'::text, 'day'::text, 'week'::text, 'month'::text, 'year'::text, 'period'::text])))
  CREATE TRIGGER published_features_are_frozen BEFORE INSERT OR DELETE OR UPDATE ON public.plan_features FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_parts()

TABLE plan_versions
  id text NOT NULL
  plan_id text NOT NULL
  version integer NOT NULL
  state text NOT NULL DEFAULT 'draft'::text
  currency text NOT NULL
  interval_unit text NOT NULL
  interval_count integer NOT NULL DEFAULT 1
  billing_time text NOT NULL DEFAULT 'anniversary'::text
  base_price_minor bigint
  credit_terms jsonb
  rate_limits jsonb NOT NULL DEFAULT '[]'::jsonb
  definition jsonb
  published_at timestamp with time zone
  created_at timestamp with time zone NOT NULL DEFAULT now()
  proration text NOT NULL DEFAULT 'day'::text
  prices_include_tax boolean NOT NULL DEFAULT false
  commitment_minor bigint
  invoice_threshold_minor bigint
  CONSTRAINT plan_versions_base_price_minor_check CHECK ((base_price_minor >= 0))
  CONSTRAINT plan_versions_billing_time_check CHECK ((billing_time = ANY (ARRAY['anniversary'::text, 'calendar'::text])))
  CONSTRAINT plan_versions_check CHECK (((state = 'draft'::text) = (published_at IS NULL)))
  CONSTRAINT plan_versions_check1 CHECK (((state = 'draft'::text) OR (definition IS NOT NULL)))
  CONSTRAINT plan_versions_commitment_minor_check CHECK ((commitment_minor > 0))
  CONSTRAINT plan_versions_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
  CONSTRAINT plan_versions_id_check CHECK ((id ~ '^pver_[0-9a-z]{22}$'::text))
  CONSTRAINT plan_versions_interval_count_check CHECK (((interval_count >= 1) AND (interval_count <= 1000)))
  CONSTRAINT plan_versions_interval_unit_check CHECK ((interval_unit = ANY (ARRAY['hour'::text, 'day'::text, 'week'::text, 'month'::text, 'year'::text])))
  CONSTRAINT plan_versions_invoice_threshold_minor_check CHECK ((invoice_threshold_minor > 0))
  CONSTRAINT plan_versions_pkey PRIMARY KEY (id)
  CONSTRAINT plan_versions_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES plans(id)
  CONSTRAINT plan_versions_plan_id_version_key UNIQUE (plan_id, version)
  CONSTRAINT plan_versions_proration_check CHECK ((proration = ANY (ARRAY['day'::text, 'second'::text])))
  CONSTRAINT plan_versions_state_check CHECK ((state = ANY (ARRAY['draft'::text, 'published'::text, 'archived'::text])))
  CONSTRAINT plan_versions_version_check CHECK ((version > 0))
  CREATE UNIQUE INDEX one_draft_per_plan ON public.plan_versions USING btree (plan_id) WHERE (state = 'draft'::text)
  CREATE TRIGGER published_versions_are_frozen BEFORE DELETE OR UPDATE ON public.plan_versions FOR EACH ROW EXECUTE FUNCTION refuse_change_of_published_version()

TABLE plans
  id text NOT NULL
  environment text NOT NULL
  product_id text NOT NULL
  lookup_id text NOT NULL
  name text NOT NULL
  type text NOT NULL
  created_at timestamp with time zone NOT NULL DEFAULT now()
  archived_at timestamp with time zone
  CONSTRAINT plans_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT plans_environment_lookup_id_key UNIQUE (environment, lookup_id)
  CONSTRAINT plans_id_check CHECK ((id ~ '^plan_[0-9a-z]{22}$'::text))
  CONSTRAINT plans_lookup_id_check CHECK ((lookup_id ~ '^[a-z][a-z0-9_-]{0,62}$'::text))
  CONSTRAINT plans_pkey PRIMARY KEY (id)
  CONSTRAINT plans_product_id_fkey FOREIGN KEY (product_id) REFERENCES products(id)
  CONSTRAINT plans_type_check CHECK ((type = ANY (ARRAY['FLAT'::text, 'USAGE'::text, 'HYBRID'::text, 'CREDITS'::text, 'CUSTOM'::text])))

TABLE products
  id text NOT NULL
  environment text NOT NULL
  lookup_id text NOT NULL
  name text NOT NULL
  hosts text[] NOT NULL DEFAULT '{}'::text[]
  upstream_url text NOT NULL
  reports_usage boolean NOT NULL DEFAULT false
  credit_definition text
  created_at timestamp with time zone NOT NULL DEFAULT now()
  updated_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT products_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT products_environment_lookup_id_key UNIQUE (environment, lookup_id)
  CONSTRAINT products_id_check CHECK ((id ~ '^prod_[0-9a-z]{22}$'::text))
  CONSTRAINT products_lookup_id_check CHECK ((lookup_id ~ '^[a-z][a-z0-9_-]{0,62}$'::text))
  CONSTRAINT products_pkey PRIMARY KEY (id)
  CREATE TRIGGER products_bump AFTER INSERT OR DELETE OR UPDATE ON public.products FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue()

TABLE refunds
  id text NOT NULL
  environment text NOT NULL
  subscriber_id text NOT NULL
  credit_note_id text NOT NULL
  payment_id text NOT NULL
  business_key text NOT NULL
  amount_minor bigint NOT NULL
  currency text NOT NULL
  state text NOT NULL
  provider_ref text
  failure_code text
  created_at timestamp with time zone NOT NULL DEFAULT now()
  updated_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT refunds_amount_minor_check CHECK ((amount_minor > 0))
  CONSTRAINT refunds_business_key_key UNIQUE (business_key)
  CONSTRAINT refunds_credit_note_id_fkey FOREIGN KEY (credit_note_id) REFERENCES credit_notes(id)
  CONSTRAINT refunds_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT refunds_id_check CHECK ((id ~ '^ref_[0-9a-z]{22}$'::text))
  CONSTRAINT refunds_payment_id_fkey FOREIGN KEY (payment_id) REFERENCES payments(id)
  CONSTRAINT refunds_pkey PRIMARY KEY (id)
  CONSTRAINT refunds_provider_ref_key UNIQUE (provider_ref)
  CONSTRAINT refunds_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'succeeded'::text, 'failed'::text])))
  CONSTRAINT refunds_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)
  CREATE INDEX refunds_by_credit_note ON public.refunds USING btree (credit_note_id)
  CREATE INDEX refunds_by_payment ON public.refunds USING btree (payment_id)

TABLE routes
  id text NOT NULL
  product_id text NOT NULL
  method text NOT NULL
  path text NOT NULL
  feature_id text
  rules jsonb NOT NULL DEFAULT '[]'::jsonb
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT routes_feature_id_fkey FOREIGN KEY (feature_id) REFERENCES features(id)
  CONSTRAINT routes_id_check CHECK ((id ~ '^rte_[0-9a-z]{22}$'::text))
  CONSTRAINT routes_method_check CHECK ((method ~ '^(\*|[A-Z]{3,10})$'::text))
  CONSTRAINT routes_path_check CHECK ((path ~ '^/'::text))
  CONSTRAINT routes_pkey PRIMARY KEY (id)
  CONSTRAINT routes_product_id_fkey FOREIGN KEY (product_id) REFERENCES products(id)
  CONSTRAINT routes_product_id_method_path_key UNIQUE (product_id, method, path)
  CREATE TRIGGER routes_bump AFTER INSERT OR DELETE OR UPDATE ON public.routes FOR EACH STATEMENT EXECUTE FUNCTION bump_catalogue()

TABLE runtime_versions
  only_row boolean NOT NULL DEFAULT true
  map_version bigint NOT NULL DEFAULT 1
  catalogue_version bigint NOT NULL DEFAULT 1
  CONSTRAINT runtime_versions_only_row_check CHECK (only_row)
  CONSTRAINT runtime_versions_pkey PRIMARY KEY (only_row)

TABLE segments
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY
  subscription_id text NOT NULL
  period_id text NOT NULL
  plan_version_id text NOT NULL
  from_at timestamp with time zone NOT NULL
  until_at timestamp with time zone NOT NULL
  status text NOT NULL
  overage boolean NOT NULL
  void boolean NOT NULL DEFAULT false
  CONSTRAINT segments_check CHECK (((until_at > from_at) OR ((until_at = from_at) AND (status = 'inactive'::text))))
  CONSTRAINT segments_never_overlap EXCLUDE USING gist (subscription_id WITH =, tstzrange(from_at, until_at, '[)'::text) WITH &&) WHERE ((NOT void))
  CONSTRAINT segments_period_id_fkey FOREIGN KEY (period_id) REFERENCES periods(id)
  CONSTRAINT segments_pkey PRIMARY KEY (id)
  CONSTRAINT segments_plan_version_id_fkey FOREIGN KEY (plan_version_id) REFERENCES plan_versions(id)
  CONSTRAINT segments_status_check CHECK ((status = ANY (ARRAY['active'::text, 'past_due'::text, 'inactive'::text])))
  CONSTRAINT segments_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
  CREATE INDEX segments_by_period ON public.segments USING btree (period_id)

TABLE service_tokens
  id text NOT NULL
  name text NOT NULL
  environment text NOT NULL
  role text NOT NULL
  digest bytea NOT NULL
  created_at timestamp with time zone NOT NULL DEFAULT now()
  revoked_at timestamp with time zone
  CONSTRAINT service_tokens_digest_check CHECK ((octet_length(digest) = 32))
  CONSTRAINT service_tokens_digest_key UNIQUE (digest)
  CONSTRAINT service_tokens_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT service_tokens_id_check CHECK ((id ~ '^tok_[0-9a-z]{22}$'::text))
  CONSTRAINT service_tokens_pkey PRIMARY KEY (id)
  CONSTRAINT service_tokens_role_check CHECK ((role = ANY (ARRAY['admin'::text, 'operator'::text, 'reader'::text, 'ingest'::text])))

TABLE shard_cursors
  shard text NOT NULL
  incarnation bigint NOT NULL
  stream_id text NOT NULL
  updated_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT shard_cursors_pkey PRIMARY KEY (shard, incarnation)
  CONSTRAINT shard_cursors_shard_fkey FOREIGN KEY (shard) REFERENCES shards(name)

TABLE shards
  name text NOT NULL
  url text NOT NULL
  weight integer NOT NULL DEFAULT 1
  incarnation bigint NOT NULL DEFAULT 0
  state text NOT NULL DEFAULT 'new'::text
  updated_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT shards_name_check CHECK ((name ~ '^[a-z0-9][a-z0-9-]{0,30}$'::text))
  CONSTRAINT shards_pkey PRIMARY KEY (name)
  CONSTRAINT shards_state_check CHECK ((state = ANY (ARRAY['new'::text, 'open'::text, 'recovering'::text])))
  CONSTRAINT shards_weight_check CHECK (((weight >= 0) AND (weight <= 100)))
  CREATE TRIGGER shards_bump AFTER INSERT OR DELETE OR UPDATE ON public.shards FOR EACH STATEMENT EXECUTE FUNCTION bump_map()

TABLE slots
  slot smallint NOT NULL
  shard text NOT NULL
  epoch bigint NOT NULL
  CONSTRAINT slots_epoch_check CHECK ((epoch > 0))
  CONSTRAINT slots_pkey PRIMARY KEY (slot)
  CONSTRAINT slots_shard_fkey FOREIGN KEY (shard) REFERENCES shards(name)
  CONSTRAINT slots_slot_check CHECK (((slot >= 0) AND (slot <= 4095)))
  CREATE INDEX slots_by_shard ON public.slots USING btree (shard)
  CREATE TRIGGER slots_bump AFTER INSERT OR DELETE OR UPDATE ON public.slots FOR EACH STATEMENT EXECUTE FUNCTION bump_map()

TABLE subscribers
  id text NOT NULL
  environment text NOT NULL
  lookup_id text
  name text NOT NULL
  email text
  address text
  tax_id text
  time_zone text NOT NULL DEFAULT 'UTC'::text
  payment_method text
  slot smallint NOT NULL
  clock_offset_ms bigint NOT NULL DEFAULT 0
  runtime_version bigint NOT NULL DEFAULT 0
  core_seq bigint NOT NULL DEFAULT 0
  applied_version bigint NOT NULL DEFAULT 0
  applied_core_seq bigint NOT NULL DEFAULT 0
  created_at timestamp with time zone NOT NULL DEFAULT now()
  tax_status text NOT NULL DEFAULT 'taxable'::text
  tax_exempt_reason text
  tax_rate_ids text[]
  locale text
  CONSTRAINT subscribers_check CHECK (((environment = 'test'::text) OR (clock_offset_ms = 0)))
  CONSTRAINT subscribers_check1 CHECK ((applied_version <= runtime_version))
  CONSTRAINT subscribers_check2 CHECK ((applied_core_seq <= core_seq))
  CONSTRAINT subscribers_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT subscribers_environment_lookup_id_key UNIQUE (environment, lookup_id)
  CONSTRAINT subscribers_id_check CHECK ((id ~ '^sbr_[0-9a-z]{22}$'::text))
  CONSTRAINT subscribers_lookup_id_check CHECK ((lookup_id ~ '^[A-Za-z0-9][A-Za-z0-9_.@-]{0,126}$'::text))
  CONSTRAINT subscribers_pkey PRIMARY KEY (id)
  CONSTRAINT subscribers_slot_check CHECK (((slot >= 0) AND (slot <= 4095)))
  CONSTRAINT subscribers_tax_status_check CHECK ((tax_status = ANY (ARRAY['taxable'::text, 'exempt'::text, 'reverse_charge'::text])))
  CREATE INDEX subscribers_by_slot ON public.subscribers USING btree (slot)
  CREATE INDEX subscribers_to_project ON public.subscribers USING btree (id) WHERE ((applied_version < runtime_version) OR (applied_core_seq < core_seq))
  CREATE TRIGGER subscribers_notify AFTER INSERT OR UPDATE OF runtime_version, core_seq ON public.subscribers FOR EACH ROW EXECUTE FUNCTION notify_projector()

TABLE subscription_add_ons
  id text NOT NULL
  subscription_id text NOT NULL
  add_on_id text NOT NULL
  quantity integer NOT NULL
  from_at timestamp with time zone NOT NULL
  until_at timestamp with time zone
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT subscription_add_ons_add_on_id_fkey FOREIGN KEY (add_on_id) REFERENCES add_ons(id)
  CONSTRAINT subscription_add_ons_check CHECK ((until_at >= from_at))
  CONSTRAINT subscription_add_ons_id_check CHECK ((id ~ '^sad_[0-9a-z]{22}$'::text))
  CONSTRAINT subscription_add_ons_pkey PRIMARY KEY (id)
  CONSTRAINT subscription_add_ons_quantity_check CHECK (((quantity >= 1) AND (quantity <= 1000000)))
  CONSTRAINT subscription_add_ons_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
  CREATE INDEX subscription_add_ons_by_subscription ON public.subscription_add_ons USING btree (subscription_id, from_at)

TABLE subscription_coupons
  id text NOT NULL
  subscription_id text NOT NULL
  coupon_id text NOT NULL
  created_at timestamp with time zone NOT NULL DEFAULT now()
  removed_at timestamp with time zone
  CONSTRAINT subscription_coupons_coupon_id_fkey FOREIGN KEY (coupon_id) REFERENCES coupons(id)
  CONSTRAINT subscription_coupons_id_check CHECK ((id ~ '^dsc_[0-9a-z]{22}$'::text))
  CONSTRAINT subscription_coupons_pkey PRIMARY KEY (id)
  CONSTRAINT subscription_coupons_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
  CREATE UNIQUE INDEX coupon_held_once ON public.subscription_coupons USING btree (subscription_id, coupon_id) WHERE (removed_at IS NULL)
  CREATE INDEX subscription_coupons_by_coupon ON public.subscription_coupons USING btree (coupon_id)
  CREATE INDEX subscription_coupons_by_subscription ON public.subscription_coupons USING btree (subscription_id, created_at)

TABLE subscriptions
  id text NOT NULL
  environment text NOT NULL
  subscriber_id text NOT NULL
  product_id text NOT NULL
  plan_id text NOT NULL
  plan_version_id text NOT NULL
  state text NOT NULL
  version integer NOT NULL DEFAULT 1
  currency text NOT NULL
  time_zone text NOT NULL
  anchor_at timestamp with time zone NOT NULL
  overage_enabled boolean NOT NULL DEFAULT false
  started_at timestamp with time zone
  cancel_at timestamp with time zone
  ended_at timestamp with time zone
  created_at timestamp with time zone NOT NULL DEFAULT now()
  interval_base integer NOT NULL DEFAULT 0
  cancel_prorate boolean NOT NULL DEFAULT false
  CONSTRAINT subscriptions_check CHECK (((state = 'canceled'::text) = (ended_at IS NOT NULL)))
  CONSTRAINT subscriptions_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text))
  CONSTRAINT subscriptions_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT subscriptions_id_check CHECK ((id ~ '^sub_[0-9a-z]{22}$'::text))
  CONSTRAINT subscriptions_interval_base_check CHECK ((interval_base >= 0))
  CONSTRAINT subscriptions_pkey PRIMARY KEY (id)
  CONSTRAINT subscriptions_plan_id_fkey FOREIGN KEY (plan_id) REFERENCES plans(id)
  CONSTRAINT subscriptions_plan_version_id_fkey FOREIGN KEY (plan_version_id) REFERENCES plan_versions(id)
  CONSTRAINT subscriptions_product_id_fkey FOREIGN KEY (product_id) REFERENCES products(id)
  CONSTRAINT subscriptions_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'active'::text, 'past_due'::text, 'canceled'::text])))
  CONSTRAINT subscriptions_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)
  CREATE UNIQUE INDEX one_live_subscription_per_product ON public.subscriptions USING btree (subscriber_id, product_id) WHERE (state <> 'canceled'::text)

TABLE take_backs
  id text NOT NULL
  environment text NOT NULL
  subscriber_id text NOT NULL
  invoice_id text NOT NULL
  grant_id text NOT NULL
  business_key text NOT NULL
  asked_micro bigint NOT NULL
  asked_minor bigint
  reason text NOT NULL
  memo text
  refund_to text NOT NULL
  actor text NOT NULL
  state text NOT NULL
  taken_micro bigint
  credited_minor bigint
  credit_note_id text
  created_at timestamp with time zone NOT NULL DEFAULT now()
  updated_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT take_backs_asked_micro_check CHECK ((asked_micro > 0))
  CONSTRAINT take_backs_asked_minor_check CHECK ((asked_minor > 0))
  CONSTRAINT take_backs_business_key_key UNIQUE (business_key)
  CONSTRAINT take_backs_check CHECK (((taken_micro >= 0) AND (taken_micro <= asked_micro)))
  CONSTRAINT take_backs_check1 CHECK ((((state = 'taking'::text) = (taken_micro IS NULL)) AND ((taken_micro IS NULL) = (credited_minor IS NULL))))
  CONSTRAINT take_backs_check2 CHECK (((state = 'refused'::text) = ((taken_micro IS NOT NULL) AND (taken_micro = 0))))
  CONSTRAINT take_backs_check3 CHECK (((taken_micro > 0) = (credited_minor > 0)))
  CONSTRAINT take_backs_check4 CHECK (((state = 'credited'::text) = (credit_note_id IS NOT NULL)))
  CONSTRAINT take_backs_credit_note_id_fkey FOREIGN KEY (credit_note_id) REFERENCES credit_notes(id)
  CONSTRAINT take_backs_credit_note_id_key UNIQUE (credit_note_id)
  CONSTRAINT take_backs_credited_minor_check CHECK ((credited_minor >= 0))
  CONSTRAINT take_backs_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT take_backs_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES grants(id)
  CONSTRAINT take_backs_id_check CHECK ((id ~ '^tkb_[0-9a-z]{22}$'::text))
  CONSTRAINT take_backs_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES invoices(id)
  CONSTRAINT take_backs_pkey PRIMARY KEY (id)
  CONSTRAINT take_backs_reason_check CHECK ((reason = ANY (ARRAY['duplicate'::text, 'mistake'::text, 'service_issue'::text, 'goodwill'::text, 'cancellation'::text, 'other'::text])))
  CONSTRAINT take_backs_refund_to_check CHECK ((refund_to = ANY (ARRAY['balance'::text, 'refund'::text])))
  CONSTRAINT take_backs_state_check CHECK ((state = ANY (ARRAY['taking'::text, 'taken'::text, 'credited'::text, 'refused'::text])))
  CONSTRAINT take_backs_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)
  CREATE UNIQUE INDEX one_take_back_at_a_time ON public.take_backs USING btree (grant_id) WHERE (state = ANY (ARRAY['taking'::text, 'taken'::text]))
  CREATE INDEX take_backs_by_grant ON public.take_backs USING btree (grant_id)
  CREATE INDEX take_backs_by_invoice ON public.take_backs USING btree (invoice_id, created_at)

TABLE tax_rates
  id text NOT NULL
  environment text NOT NULL
  lookup_id text NOT NULL
  name text NOT NULL
  percent text NOT NULL
  created_at timestamp with time zone NOT NULL DEFAULT now()
  archived_at timestamp with time zone
  CONSTRAINT tax_rates_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT tax_rates_environment_lookup_id_key UNIQUE (environment, lookup_id)
  CONSTRAINT tax_rates_id_check CHECK ((id ~ '^txr_[0-9a-z]{22}$'::text))
  CONSTRAINT tax_rates_lookup_id_check CHECK ((lookup_id ~ '^[a-z][a-z0-9_-]{0,62}$'::text))
  CONSTRAINT tax_rates_percent_check CHECK (((percent ~ '^(0|[1-9][0-9]{0,2})(\.[0-9]{1,6})?$'::text) AND ((percent)::numeric <= (100)::numeric)))
  CONSTRAINT tax_rates_pkey PRIMARY KEY (id)

TABLE threshold_looks
  subscription_id text NOT NULL
  mark text NOT NULL
  CONSTRAINT threshold_looks_pkey PRIMARY KEY (subscription_id)
  CONSTRAINT threshold_looks_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)

TABLE top_ups
  id text NOT NULL
  environment text NOT NULL
  subscriber_id text NOT NULL
  wallet_id text NOT NULL
  business_key text NOT NULL
  credits_micro bigint NOT NULL
  amount_minor bigint NOT NULL
  currency text NOT NULL
  state text NOT NULL
  payment_id text
  invoice_id text
  created_at timestamp with time zone NOT NULL DEFAULT now()
  updated_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT top_ups_amount_minor_check CHECK ((amount_minor >= 0))
  CONSTRAINT top_ups_business_key_key UNIQUE (business_key)
  CONSTRAINT top_ups_credits_micro_check CHECK (((credits_micro >= 1) AND (credits_micro <= '999999999999999'::bigint)))
  CONSTRAINT top_ups_id_check CHECK ((id ~ '^top_[0-9a-z]{22}$'::text))
  CONSTRAINT top_ups_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES invoices(id)
  CONSTRAINT top_ups_payment_id_fkey FOREIGN KEY (payment_id) REFERENCES payments(id)
  CONSTRAINT top_ups_payment_id_key UNIQUE (payment_id)
  CONSTRAINT top_ups_pkey PRIMARY KEY (id)
  CONSTRAINT top_ups_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'granted'::text, 'declined'::text, 'failed'::text])))
  CONSTRAINT top_ups_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)
  CONSTRAINT top_ups_wallet_id_fkey FOREIGN KEY (wallet_id) REFERENCES wallets(id)
  CREATE INDEX top_ups_by_invoice ON public.top_ups USING btree (invoice_id)

TABLE usage_corrections
  id text NOT NULL
  environment text NOT NULL
  subscriber_id text NOT NULL
  subscription_id text NOT NULL
  event_day date NOT NULL
  event_id text NOT NULL
  segment_id bigint NOT NULL
  adjusts_period_id text NOT NULL DEFAULT ''::text
  meter_id text NOT NULL
  occurred_at timestamp with time zone NOT NULL
  quantity_before bigint NOT NULL
  quantity_after bigint NOT NULL
  event_count_delta smallint NOT NULL DEFAULT 0
  reason text NOT NULL
  actor text NOT NULL
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT usage_corrections_check CHECK (((quantity_before <> quantity_after) OR (event_count_delta <> 0)))
  CONSTRAINT usage_corrections_environment_check CHECK ((environment = ANY (ARRAY['test'::text, 'live'::text])))
  CONSTRAINT usage_corrections_event_count_delta_check CHECK ((event_count_delta = ANY (ARRAY['-1'::integer, 0, 1])))
  CONSTRAINT usage_corrections_id_check CHECK ((id ~ '^cor_[0-9a-z]{22}$'::text))
  CONSTRAINT usage_corrections_meter_id_fkey FOREIGN KEY (meter_id) REFERENCES meters(id)
  CONSTRAINT usage_corrections_pkey PRIMARY KEY (id)
  CONSTRAINT usage_corrections_quantity_after_check CHECK (((quantity_after >= 0) AND (quantity_after <= '999999999999999'::bigint)))
  CONSTRAINT usage_corrections_quantity_before_check CHECK (((quantity_before >= 0) AND (quantity_before <= '999999999999999'::bigint)))
  CONSTRAINT usage_corrections_reason_check CHECK (((length(reason) >= 1) AND (length(reason) <= 500)))
  CONSTRAINT usage_corrections_segment_id_fkey FOREIGN KEY (segment_id) REFERENCES segments(id)
  CONSTRAINT usage_corrections_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)
  CONSTRAINT usage_corrections_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
  CREATE INDEX usage_corrections_by_event ON public.usage_corrections USING btree (event_day, event_id, created_at)
  CREATE INDEX usage_corrections_by_subscription ON public.usage_corrections USING btree (subscription_id, segment_id)
  CREATE TRIGGER usage_corrections_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.usage_corrections FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite()

TABLE usage_events PARTITION BY RANGE (event_day)
  event_day date NOT NULL
  event_id text NOT NULL
  environment text NOT NULL
  subscriber_id text NOT NULL
  subscription_id text NOT NULL
  segment_id bigint NOT NULL
  period_id text NOT NULL
  adjusts_period_id text
  product_id text NOT NULL
  api_key_id text
  occurred_at timestamp with time zone NOT NULL
  received_at timestamp with time zone NOT NULL DEFAULT now()
  status smallint NOT NULL
  meter_ids text[] NOT NULL
  quantities bigint[] NOT NULL
  bucket_ids bigint[] NOT NULL DEFAULT '{}'::bigint[]
  bucket_micro bigint[] NOT NULL DEFAULT '{}'::bigint[]
  credits_micro bigint NOT NULL DEFAULT 0
  overage_micro bigint NOT NULL DEFAULT 0
  written_off_micro bigint NOT NULL DEFAULT 0
  flags text[] NOT NULL DEFAULT '{}'::text[]
  ledger_txn_id bigint
  CONSTRAINT usage_events_bucket_micro_check CHECK (((0 < ALL (bucket_micro)) AND ('999999999999999'::bigint >= ALL (bucket_micro)) AND (array_position(bucket_micro, NULL::bigint) IS NULL)))
  CONSTRAINT usage_events_check CHECK ((cardinality(meter_ids) = cardinality(quantities)))
  CONSTRAINT usage_events_check1 CHECK ((cardinality(bucket_ids) = cardinality(bucket_micro)))
  CONSTRAINT usage_events_check2 CHECK ((to_char((event_day)::timestamp with time zone, 'YYYYMMDD'::text) = "left"(event_id, 8)))
  CONSTRAINT usage_events_credits_micro_check CHECK (((credits_micro >= 0) AND (credits_micro <= '999999999999999'::bigint)))
  CONSTRAINT usage_events_overage_micro_check CHECK (((overage_micro >= 0) AND (overage_micro <= '999999999999999'::bigint)))
  CONSTRAINT usage_events_pkey PRIMARY KEY (event_day, event_id)
  CONSTRAINT usage_events_quantities_check CHECK (((0 <= ALL (quantities)) AND ('999999999999999'::bigint >= ALL (quantities)) AND (array_position(quantities, NULL::bigint) IS NULL)))
  CONSTRAINT usage_events_written_off_micro_check CHECK (((written_off_micro >= 0) AND (written_off_micro <= '999999999999999'::bigint)))
  CREATE INDEX usage_events_by_period ON ONLY public.usage_events USING btree (period_id, occurred_at)
  CREATE INDEX usage_events_by_subscriber ON ONLY public.usage_events USING btree (subscriber_id, occurred_at)

TABLE usage_events_default PARTITION OF usage_events DEFAULT
  event_day date NOT NULL
  event_id text NOT NULL
  environment text NOT NULL
  subscriber_id text NOT NULL
  subscription_id text NOT NULL
  segment_id bigint NOT NULL
  period_id text NOT NULL
  adjusts_period_id text
  product_id text NOT NULL
  api_key_id text
  occurred_at timestamp with time zone NOT NULL
  received_at timestamp with time zone NOT NULL DEFAULT now()
  status smallint NOT NULL
  meter_ids text[] NOT NULL
  quantities bigint[] NOT NULL
  bucket_ids bigint[] NOT NULL DEFAULT '{}'::bigint[]
  bucket_micro bigint[] NOT NULL DEFAULT '{}'::bigint[]
  credits_micro bigint NOT NULL DEFAULT 0
  overage_micro bigint NOT NULL DEFAULT 0
  written_off_micro bigint NOT NULL DEFAULT 0
  flags text[] NOT NULL DEFAULT '{}'::text[]
  ledger_txn_id bigint
  CONSTRAINT usage_events_bucket_micro_check CHECK (((0 < ALL (bucket_micro)) AND ('999999999999999'::bigint >= ALL (bucket_micro)) AND (array_position(bucket_micro, NULL::bigint) IS NULL)))
  CONSTRAINT usage_events_check CHECK ((cardinality(meter_ids) = cardinality(quantities)))
  CONSTRAINT usage_events_check1 CHECK ((cardinality(bucket_ids) = cardinality(bucket_micro)))
  CONSTRAINT usage_events_check2 CHECK ((to_char((event_day)::timestamp with time zone, 'YYYYMMDD'::text) = "left"(event_id, 8)))
  CONSTRAINT usage_events_credits_micro_check CHECK (((credits_micro >= 0) AND (credits_micro <= '999999999999999'::bigint)))
  CONSTRAINT usage_events_default_pkey PRIMARY KEY (event_day, event_id)
  CONSTRAINT usage_events_overage_micro_check CHECK (((overage_micro >= 0) AND (overage_micro <= '999999999999999'::bigint)))
  CONSTRAINT usage_events_quantities_check CHECK (((0 <= ALL (quantities)) AND ('999999999999999'::bigint >= ALL (quantities)) AND (array_position(quantities, NULL::bigint) IS NULL)))
  CONSTRAINT usage_events_written_off_micro_check CHECK (((written_off_micro >= 0) AND (written_off_micro <= '999999999999999'::bigint)))
  CREATE INDEX usage_events_default_period_id_occurred_at_idx ON public.usage_events_default USING btree (period_id, occurred_at)
  CREATE INDEX usage_events_default_subscriber_id_occurred_at_idx ON public.usage_events_default USING btree (subscriber_id, occurred_at)

TABLE usage_levels
  subscription_id text NOT NULL
  segment_id bigint NOT NULL
  meter_id text NOT NULL
  adjusts_period_id text NOT NULL DEFAULT ''::text
  at timestamp with time zone NOT NULL
  event_id text NOT NULL
  quantity bigint NOT NULL
  CONSTRAINT usage_levels_pkey PRIMARY KEY (subscription_id, segment_id, meter_id, at, event_id)
  CONSTRAINT usage_levels_quantity_check CHECK (((quantity >= 0) AND (quantity <= '999999999999999'::bigint)))
  CONSTRAINT usage_levels_segment_id_fkey FOREIGN KEY (segment_id) REFERENCES segments(id)
  CONSTRAINT usage_levels_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)

TABLE usage_rollups
  subscription_id text NOT NULL
  segment_id bigint NOT NULL
  meter_id text NOT NULL
  hour timestamp with time zone NOT NULL
  adjusts_period_id text NOT NULL DEFAULT ''::text
  quantity numeric(38,0) NOT NULL
  event_count bigint NOT NULL
  max_quantity bigint NOT NULL
  latest_quantity bigint NOT NULL
  latest_at timestamp with time zone NOT NULL
  CONSTRAINT usage_rollups_event_count_check CHECK ((event_count > 0))
  CONSTRAINT usage_rollups_pkey PRIMARY KEY (subscription_id, segment_id, meter_id, hour, adjusts_period_id)
  CONSTRAINT usage_rollups_quantity_check CHECK (((quantity >= (0)::numeric) AND (quantity < '1000000000000000000000000000000'::numeric)))
  CONSTRAINT usage_rollups_segment_id_fkey FOREIGN KEY (segment_id) REFERENCES segments(id)
  CONSTRAINT usage_rollups_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)

TABLE usage_values
  subscription_id text NOT NULL
  segment_id bigint NOT NULL
  meter_id text NOT NULL
  adjusts_period_id text NOT NULL DEFAULT ''::text
  value_digest bytea NOT NULL
  first_at timestamp with time zone NOT NULL
  CONSTRAINT usage_values_pkey PRIMARY KEY (subscription_id, segment_id, meter_id, adjusts_period_id, value_digest)
  CONSTRAINT usage_values_segment_id_fkey FOREIGN KEY (segment_id) REFERENCES segments(id)
  CONSTRAINT usage_values_subscription_id_fkey FOREIGN KEY (subscription_id) REFERENCES subscriptions(id)
  CONSTRAINT usage_values_value_digest_check CHECK ((octet_length(value_digest) = 16))

TABLE wallets
  id text NOT NULL
  subscriber_id text NOT NULL
  unit text NOT NULL
  created_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT wallets_id_check CHECK ((id ~ '^wal_[0-9a-z]{22}$'::text))
  CONSTRAINT wallets_pkey PRIMARY KEY (id)
  CONSTRAINT wallets_subscriber_id_fkey FOREIGN KEY (subscriber_id) REFERENCES subscribers(id)
  CONSTRAINT wallets_subscriber_id_unit_key UNIQUE (subscriber_id, unit)
  CONSTRAINT wallets_unit_check CHECK ((unit ~ '^[a-z][a-z0-9_]{0,62}$'::text))

TABLE webhook_events
  provider text NOT NULL
  event_id text NOT NULL
  payload jsonb NOT NULL
  received_at timestamp with time zone NOT NULL DEFAULT now()
  CONSTRAINT webhook_events_pkey PRIMARY KEY (provider, event_id)

CREATE OR REPLACE FUNCTION public.bump_catalogue()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  UPDATE runtime_versions SET catalogue_version = catalogue_version + 1;
  PERFORM pg_notify('tollbook_projector', 'catalogue');
  RETURN NULL;
END $function$

CREATE OR REPLACE FUNCTION public.bump_map()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  UPDATE runtime_versions SET map_version = map_version + 1;
  PERFORM pg_notify('tollbook_projector', 'map');
  RETURN NULL;
END $function$

CREATE OR REPLACE FUNCTION public.notify_projector()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  PERFORM pg_notify('tollbook_projector', NEW.id);
  RETURN NULL;
END $function$

CREATE OR REPLACE FUNCTION public.refuse_change_of_final_invoice()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE progress text[] := ARRAY['state', 'payment_status', 'paid_at', 'paid_by', 'paid_reference', 'voided_at', 'void_reason', 'given_up_at'];
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF OLD.finalized_at IS NOT NULL THEN RAISE EXCEPTION 'invoice % is final and never changes', OLD.number; END IF;
    RETURN OLD;
  END IF;
  IF OLD.finalized_at IS NOT NULL AND (to_jsonb(NEW) - progress) IS DISTINCT FROM (to_jsonb(OLD) - progress) THEN
    RAISE EXCEPTION 'invoice % is final and never changes', OLD.number;
  END IF;
  IF OLD.state IN ('paid', 'void') AND NEW.state <> OLD.state THEN
    RAISE EXCEPTION 'invoice % is % and stays so', OLD.number, OLD.state;
  END IF;
  RETURN NEW;
END $function$

CREATE OR REPLACE FUNCTION public.refuse_change_of_final_lines()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE invoice text := CASE TG_OP WHEN 'DELETE' THEN OLD.invoice_id ELSE NEW.invoice_id END;
BEGIN
  IF EXISTS (SELECT 1 FROM invoices WHERE id = invoice AND finalized_at IS NOT NULL) THEN
    RAISE EXCEPTION 'the lines of invoice % are final and never change', invoice;
  END IF;
  RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $function$

CREATE OR REPLACE FUNCTION public.refuse_change_of_published_parts()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE version_id text := CASE TG_OP WHEN 'DELETE' THEN OLD.plan_version_id ELSE NEW.plan_version_id END;
BEGIN
  IF EXISTS (SELECT 1 FROM plan_versions WHERE id = version_id AND state <> 'draft')
     OR (TG_OP = 'UPDATE' AND EXISTS (SELECT 1 FROM plan_versions WHERE id = OLD.plan_version_id AND state <> 'draft')) THEN
    RAISE EXCEPTION 'plan version % is published and never changes', version_id;
  END IF;
  RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $function$

CREATE OR REPLACE FUNCTION public.refuse_change_of_published_version()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
END $function$

CREATE OR REPLACE FUNCTION public.refuse_rewrite()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  RAISE EXCEPTION '% is append-only: post a correcting record instead', TG_TABLE_NAME;
END $function$

CREATE OR REPLACE FUNCTION public.require_entries()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  IF (SELECT count(*) FROM ledger_entries WHERE txn_id = NEW.id) < 2 THEN
    RAISE EXCEPTION 'ledger transaction % has fewer than two entries', NEW.id;
  END IF;
  RETURN NULL;
END $function$

CREATE OR REPLACE FUNCTION public.require_zero_sum()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE wrong bigint;
BEGIN
  SELECT e.txn_id INTO wrong FROM ledger_entries e JOIN accounts a ON a.id = e.account_id
  WHERE e.txn_id IN (SELECT txn_id FROM posted) GROUP BY e.txn_id, a.asset HAVING sum(e.amount) <> 0 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'ledger transaction % does not sum to zero in each asset', wrong;
  END IF;
  RETURN NULL;
END $function$
