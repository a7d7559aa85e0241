/** Of `[node] name`, which is also a name in the node's cluster certificate: a DNS label has no more (RFC 1035 §2.3.4). */
const nodeNameCharactersMax = 63;

export const nodeNameForm = `1 to ${nodeNameCharactersMax} letters, digits, ".", "_" and "-", and begin and end with a letter or digit`;

/** What a node may be called, by its own configuration and by those that invite it. */
export const isNodeName = (name: string): boolean =>
  name.length <= nodeNameCharactersMax && /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(name);
