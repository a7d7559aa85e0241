const redacted = '[redacted]';
/** Nesting of logged values beyond this is cut. */
const depthMax = 6;

const secretName =
  /(?:pin|pinvalue|secret|secretaccesskey|secretkey|signingkey|privatekey|plaintext|password|passphrase|authorization)$/;

const isSecretName = (name: string): boolean => secretName.test(name.toLowerCase().replaceAll(/[-_]/g, ''));

/**
 * Fields as they may be logged: what is named like a secret is replaced (X-L2), bytes become their count, errors
 * their name and message. The last line of defence; nobody should pass a secret in the first place.
 */
export function redact(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return redactObject(fields, 0);
}

/**
 * A string as a value of a log line: JSON, with what `redact` would replace in it. Most of what is logged needs nothing
 * done to it, which one look at each character shows.
 */
export function redactedJson(text: string): string {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    // JSON's own (RFC 8259 §7), whatever is not printable ASCII, and `=`, without which there is no `pin-value=`.
    if (code < 0x20 || code > 0x7e || code === 0x22 || code === 0x5c || code === 0x3d) {
      return JSON.stringify(redactText(text));
    }
  }
  return `"${text}"`;
}

function redactObject(fields: object, depth: number): Record<string, unknown> {
  // Unlike an assignment it takes `__proto__` for a name, which a request's metadata may hold (X-M2).
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [
      name,
      isSecretName(name) && value !== null ? redacted : redactValue(value, depth),
    ]),
  );
}

function redactValue(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return redactText(value);
  if (typeof value !== 'object' || value === null) return value;
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof Error) {
    return {
      name: value.name,
      message: redactValue(value.message, depth),
      stack: redactValue(value.stack, depth),
    };
  }
  if (depth >= depthMax) return '[deeper]';
  if (Array.isArray(value)) return value.map((each) => redactValue(each, depth + 1));
  return redactObject(value, depth + 1);
}

/** RFC 7512 §2.3: the attribute ends at `&` in the query part of a `pkcs11:` URI. */
function redactText(text: string): string {
  return text.includes('pin-value=')
    ? text.replaceAll(/pin-value=[^&\s"']*/g, `pin-value=${redacted}`)
    : text;
}
