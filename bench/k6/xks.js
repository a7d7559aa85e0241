/*
 * The load of KMS on one key store for k6: requests leave at a constant rate whether or not earlier ones came back.
 * Started by `npm run bench -- k6`, which signs them; the environment names
 *
 *   XKS_REQUESTS     a JSON file of signed requests, [{url, headers, body, plaintext}], good for five minutes;
 *   XKS_RATE, XKS_SECONDS, XKS_CONNECTIONS
 */
import { check } from 'k6';
import { SharedArray } from 'k6/data';
import exec from 'k6/execution';
import http from 'k6/http';

const requests = new SharedArray('requests', () => JSON.parse(open(__ENV.XKS_REQUESTS)));

export const options = {
  scenarios: {
    kms: {
      executor: 'constant-arrival-rate',
      exec: 'kms',
      rate: Number(__ENV.XKS_RATE),
      timeUnit: '1s',
      duration: `${__ENV.XKS_SECONDS}s`,
      // Each has a connection of its own. One that has to be made first drops what was due meanwhile.
      preAllocatedVUs: 8 * Number(__ENV.XKS_CONNECTIONS),
      gracefulStop: '5s',
    },
  },
  thresholds: {
    http_req_duration: ['p(99)<250'],
    http_req_failed: ['rate==0'],
    dropped_iterations: ['count==0'],
    checks: ['rate==1'],
  },
  summaryTrendStats: ['avg', 'p(50)', 'p(90)', 'p(99)', 'p(99.9)', 'max'],
};

export function kms() {
  const { url, headers, body, plaintext } = requests[exec.scenario.iterationInTest % requests.length];
  const answer = http.post(url, body, { headers });
  check(answer, {
    'answered 200': ({ status }) => status === 200,
    'the plaintext came back': ({ body: text }) =>
      plaintext === null || text.includes(`"${plaintext}"`) || JSON.parse(text).plaintext === plaintext,
  });
}
