import type { CoapConnection } from "#net/index.js";
import { Subscribers } from "#security/index.js";
import { PeerFacts } from "#server/peer-facts.js";
import type { ServerCredentials } from "#server/server-credentials.js";
import { issueThrowawayCredentials, loadCertificateChain } from "#x509/index.js";
import test from "ava";

test("a certificate's names are known as long as its association, though thousands were verified since", async (t) => {
  const atMs = Date.now();
  const { certificatePem } = await issueThrowawayCredentials({ commonName: "a", purpose: "clientAuth", atMs });
  let names: readonly string[] = ["urn:uuid:1"];
  let generation = 0;
  const credentials = {
    subscribers: new Subscribers([{ name: "alice", certificateNames: ["urn:uuid:1"] }]),
    namesOf: () => names,
    get generation() {
      return generation;
    },
  } as unknown as ServerCredentials;
  const facts = new PeerFacts(credentials);
  const peer = {
    isSecure: true,
    remoteAddress: { address: "192.0.2.1", port: 1 },
    peerInfo: { certificates: loadCertificateChain(certificatePem) },
  } as unknown as CoapConnection;
  t.like(facts.of(peer).certificate, { name: "alice" });
  // The server keeps names of so many certificates only, and a subscriber is added.
  names = [];
  generation += 1;
  t.like(facts.of(peer).certificate, { name: "alice" });
});
