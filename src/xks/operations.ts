/** The four operations of the XKS proxy API, as the specification spells them. */
export type XksOperation = 'GetKeyMetadata' | 'Encrypt' | 'Decrypt' | 'GetHealthStatus';
