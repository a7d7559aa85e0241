/** What requests parse to whose metadata says nothing optional (X-M1, X-M2). */
export const notSaid = {
  awsPrincipalArn: null,
  kmsKeyArn: null,
  awsSourceVpc: null,
  awsSourceVpce: null,
  kmsViaService: null,
  extras: [],
};
