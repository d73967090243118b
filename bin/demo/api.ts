import { setTimeout as sleep } from 'node:timers/promises';

/** A JSON object of the admin API, read field by field: a missing field is a clear error, not an undefined. */
export class Answer {
  readonly status: number;
  readonly body: unknown;
  readonly #from: string;

  constructor(from: string, status: number, body: unknown) {
    this.#from = from;
    this.status = status;
    this.body = body;
  }

  /** The value at a dotted path such as `invoice.lines.0.amount`. Throws when it is not there. */
  at(path: string): unknown {
    let value: unknown = this.body;
    for (const name of path.split('.')) {
      if (typeof value !== 'object' || value === null || !(name in value)) {
        throw new Error(`${this.#from} answered without ${path}: ${JSON.stringify(this.body)}`);
      }
      value = Reflect.get(value, name);
    }
    return value;
  }

  text(path: string): string {
    const value = this.at(path);
    if (typeof value !== 'string') throw new Error(`${this.#from} answered ${path} as no text`);
    return value;
  }

  list(path: string): readonly Answer[] {
    const value = this.at(path);
    if (!Array.isArray(value)) throw new Error(`${this.#from} answered ${path} as no list`);
    return value.map(
      (item: unknown, index) => new Answer(`${this.#from} ${path}.${index}`, this.status, item),
    );
  }
}

/** The admin API over HTTP, as any client would use it. A refusal is thrown with its problem document. */
export class AdminApi {
  readonly url: string;
  readonly token: string;

  constructor(url: string, token: string) {
    this.url = url;
    this.token = token;
  }

  async get(path: string): Promise<Answer> {
    return this.#call('GET', path, undefined);
  }

  async post(path: string, body: unknown = {}): Promise<Answer> {
    return this.#call('POST', path, body);
  }

  async patch(path: string, body: unknown): Promise<Answer> {
    return this.#call('PATCH', path, body);
  }

  /** Asks until `isDone` holds of the answer, at most `withinMs`. Throws with the last answer. */
  async until(
    path: string,
    isDone: (answer: Answer) => boolean,
    withinMs: number,
  ): Promise<Answer> {
    const deadline = Date.now() + withinMs;
    for (;;) {
      const answer = await this.get(path);
      if (isDone(answer)) return answer;
      if (Date.now() > deadline) {
        throw new Error(
          `${path} was not as awaited after ${withinMs} ms: ${JSON.stringify(answer.body)}`,
        );
      }
      await sleep(200);
    }
  }

  async #call(method: string, path: string, body: unknown): Promise<Answer> {
    const response = await fetch(`${this.url}/api/v1${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}`);
    return new Answer(`${method} ${path}`, response.status, text === '' ? null : JSON.parse(text));
  }
}
