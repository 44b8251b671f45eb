import { ROUND_TRIP_ESTIMATIONS } from "#coap/index.js";

/** The flags of `dpe get` and its like: libcoap's letters, where they mean the same. */
export const COAP_OPTIONS = {
  identity: { type: "string", short: "u" },
  key: { type: "string", short: "k" },
  certificate: { type: "string", short: "c" },
  "private-key": { type: "string", short: "j" },
  ca: { type: "string", short: "C" },
  roots: { type: "string", short: "R" },
  "no-verify": { type: "boolean", short: "n", default: false },
  payload: { type: "string", short: "e" },
  file: { type: "string", short: "f" },
  type: { type: "string", short: "t" },
  accept: { type: "string", short: "A" },
  option: { type: "string", short: "O", multiple: true },
  block: { type: "string", short: "b" },
  blocks: { type: "string", short: "L" },
  break: { type: "string", short: "B", default: "90" },
  count: { type: "string", short: "G" },
  "hop-limit": { type: "string", short: "H" },
  "keep-alive": { type: "string", short: "K", default: "0" },
  "local-address": { type: "string", short: "a" },
  "local-port": { type: "string", short: "p" },
  loss: { type: "string", short: "l" },
  "max-message": { type: "string", short: "X" },
  "no-alpn": { type: "boolean", default: false },
  "no-uri-host": { type: "boolean", short: "U", default: false },
  non: { type: "boolean", short: "N", default: false },
  output: { type: "string", short: "o" },
  proxy: { type: "string", short: "P" },
  reliable: { type: "boolean", short: "r", default: false },
  seconds: { type: "string", short: "s" },
  "time-outs": { type: "string" },
  token: { type: "string", short: "T" },
  verbosity: { type: "string", short: "v", default: "3" },
  newline: { type: "boolean", short: "w", default: false },
} as const;

/** Letters of coap-client that have no meaning here, and why. */
export const REFUSED_FLAGS: Readonly<Record<string, string>> = {
  J: "-J: keys in PKCS #11 tokens are not read; -c and -j take PEM files",
  m: "-m: the method is the command, as in dpe put",
  M: "-M: raw public keys are the agent's (rawPublicKey in agent.yaml); -c and -j take a certificate",
  S: "-S: certificates by server name are the server's, not a client's",
};

/** What the flags mean, for `--help`. */
export const COAP_FLAGS: string = `  -u ID -k KEY   pre-shared key and its identity         -c, -j FILE  own certificate, private key (PEM)
  -C, -R FILE    certificates that are trusted (PEM)     -n           check no certificate (dangerous)
  -e TEXT        payload, percent-encoded                -f FILE      payload from a file, - for standard input
  -t, -A TYPE    content format sent, wanted: a number, or a name such as cbor, json, senml+cbor
  -O NUM,TEXT    another option, TEXT or 0x and hex      -H HOPS      Hop-Limit, 1 to 255
  -b [NUM,]SIZE  largest block, 16 to 1024; of what is read, the blocks from NUM on
  -L SUM         0: one message each way, no blocks; 1: blocks are written as they come; 3: when all are there
                 (the default); and 4: by Q-Block (RFC 9177), where the server has it
  -X BYTES       longest message taken over TCP          -r           over TCP, or TLS, whatever the URI says
  -P PROXY       by way of this forward-proxy, a URI     -U           no Uri-Host
  -a ADDRESS -p PORT  send from there                    -T TOKEN     tokens count up from this text (guessable)
  -N             Non-confirmable                         -B SECONDS   give up after, default 90
  -G COUNT       so many times, a second apart           -K SECONDS   ask whether the server lives, when so long silent
  -o FILE        write the payload there                 -w           a newline after it
  -s SECONDS     observe for so long                     -v LEVEL     6 or more: show codes and options
  -l 3,5-7       do not send these datagrams; -l 20%: nor one in five, by chance: to see what loss does
  --no-alpn      take a TLS server on another port than 5684 that does not say it speaks CoAP, as libcoap's does not
  --time-outs ${ROUND_TRIP_ESTIMATIONS.join("|")}  of retransmissions: RFC 7252's, or following the round-trip times`;
