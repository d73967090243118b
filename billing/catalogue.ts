/**
 * What every gateway knows of the products: written to each shard as `tb:cat` by the projector, in JSON, and polled.
 * It holds no subscriber and no price. A row that fails its schema disables its own product only.
 */
export type Catalogue = {
  readonly version: number;
  readonly products: readonly CatalogueProduct[];
};

export type CatalogueProduct = {
  readonly id: string;
  readonly environment: 'test' | 'live';
  /** lookup_id: the first path segment that names the product at the gateway. */
  readonly key: string;
  readonly hosts: readonly string[];
  readonly upstream_url: string;
  /** Whether the upstream's own report of usage is believed at all. */
  readonly reports_usage: boolean;
  readonly routes: readonly CatalogueRoute[];
};

export type CatalogueRoute = {
  readonly id: string;
  /** `*` or a method in upper case. */
  readonly method: string;
  /** Segments; `{name}` stands for one segment, a last `*` for any rest. `/v1/images/{id}`, `/v1/*`. The most specific route wins. */
  readonly path: string;
  /** Feature key that the plan must contain, '' = none. */
  readonly feature: string;
  readonly meters: readonly MeterRule[];
};

export type MeterRule = {
  /** Meter key. */
  readonly meter: string;
  /** Units held before forwarding and charged when nothing is reported. */
  readonly estimate: number;
  /** A report above it is refused, the estimate charged and an alert raised. Null: the estimate. */
  readonly max_actual: number | null;
  readonly source:
    | { readonly kind: 'fixed' }
    | { readonly kind: 'header'; readonly name: string }
    /** RFC 6901 pointer into a JSON response body. */
    | { readonly kind: 'json'; readonly pointer: string }
    /** RFC 6901 pointer into the last SSE data line that is JSON and has it. */
    | { readonly kind: 'sse'; readonly pointer: string };
};
