import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type CoapConnection,
  CODE,
  CONTENT_FORMAT,
  OPTION,
  ResponseError,
  router,
  serve,
  type ServeOptions,
} from "#api/index.js";
import { decodeMessage, encodeMessage, type Message, MESSAGE_TYPE, Options } from "#coap/index.js";
import { type SocketAddress, UdpSocket } from "#net/index.js";
import { encodePack } from "#senml/index.js";
import { DPE } from "#testing/dpe-program.js";
import { freePort } from "#testing/free-port.js";
import test, { type ExecutionContext } from "ava";

function dpe(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [DPE, ...args], { timeout: 30_000 }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
    child.stdin?.end();
  });
}

async function start(t: ExecutionContext, options: ServeOptions = {}, isStream = false) {
  const requests: string[] = [];
  const maxMessages: number[] = [];
  const pskOf = (identity: string): string | undefined => (identity === "alice" ? "0123456789abcdef" : undefined);
  const note = (incoming: { readonly code: number; readonly options: { readonly uriPath: readonly string[] } }) =>
    requests.push(`${incoming.code} ${incoming.options.uriPath.join("/")}`);
  const noteSize = ({ peer, isSecure }: CoapConnection): void => {
    if (peer.stream !== undefined && !isSecure) maxMessages.push(peer.stream.capabilities.maxMessageBytes);
  };
  const server = await serve(
    router()
      .get("/temperature", ({ connection }) => {
        noteSize(connection);
        return "21.5";
      })
      .get("/long", ({ connection }) => {
        noteSize(connection);
        return "x".repeat(3000);
      })
      .get("/senml", () => ({
        payload: encodePack([{ name: "t", value: 1.5, timeSeconds: 1_700_000_000 }], "cbor"),
        contentFormat: CONTENT_FORMAT["application/senml+cbor"],
      }))
      .get("/ticks", () => ({
        payload: "tick 0",
        observe: (notify) => {
          let ticks = 0;
          const timer = setInterval(() => notify(`tick ${++ticks}`), 100);
          return () => clearInterval(timer);
        },
      }))
      .put("/echo", (incoming) => {
        note(incoming);
        return {
          payload: `${incoming.contentFormat ?? "-"} ${incoming.options.get(OPTION.ETag)?.join(".") ?? "-"} ${incoming.text()}`,
        };
      })
      .get("/locked", () => {
        throw new ResponseError(CODE.Unauthorized, { title: "who are you?" });
      })
      .delete("/temperature", () => {
        throw new ResponseError(CODE.Forbidden, { title: "not yours", detail: "it is the kitchen's" });
      }),
    {
      host: "127.0.0.1",
      port: 0,
      dtls: { port: 0, pskOf },
      ...(isStream ? { tcp: { port: 0 }, tls: { port: 0, pskOf } } : {}),
      ...options,
    },
  );
  t.teardown(() => server.close());
  return {
    requests,
    plain: `coap://127.0.0.1:${server.address?.port}`,
    secure: `coaps://127.0.0.1:${server.secureAddress?.port}`,
    stream: `coap+tcp://127.0.0.1:${server.tcpAddress?.port}`,
    secureStream: `coaps+tcp://127.0.0.1:${server.tlsAddress?.port}`,
    csms: () => maxMessages,
  };
}

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), "dpe-coap-"));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

test("dpe get prints what a resource holds, over UDP and over DTLS, SenML for a person", async (t) => {
  const { plain, secure } = await start(t);
  t.like(await dpe("get", `${plain}/temperature`), { code: 0, stdout: "21.5" });
  t.like(await dpe("get", "-u", "alice", "-k", "0123456789abcdef", `${secure}/temperature`), {
    code: 0,
    stdout: "21.5",
  });
  t.like(await dpe("get", "-w", "-N", `${plain}/senml`), {
    code: 0,
    stdout: '[{"name":"t","timeSeconds":1700000000,"value":1.5}]\n',
  });
  const locked = await dpe("get", `${plain}/locked`);
  t.like(locked, { code: 3, stderr: "dpe: 4.01 Unauthorized: who are you? (SECURITY_AUTHENTICATION_REFUSED)\n" });
  const wrong = await dpe("get", "-u", "alice", "-k", "wrong", "-B", "20", `${secure}/temperature`);
  t.is(wrong.code, 3, "an authentication error");
  t.regex(wrong.stderr, /DTLS_/);
  t.is((await dpe("get", "-u", "mallory", "-k", "0123456789abcdef", "-B", "20", `${secure}/temperature`)).code, 3);
});

test("dpe put sends text, files, formats and options; bodies go in blocks of the size asked for", async (t) => {
  const { plain, requests } = await start(t);
  const path = folder(t);
  const input = join(path, "input");
  const output = join(path, "output");
  writeFileSync(input, "y".repeat(2000));
  const text = await dpe("put", "-e", "a%20b%ff", "-t", "senml+json", "-O", "4,0x0102", `${plain}/echo`);
  t.like(text, { code: 0, stdout: "110 1.2 a b\ufffd" });
  t.like(await dpe("put", "-f", input, "-t", "60", "-b", "64", "-o", output, `${plain}/echo`), { code: 0, stdout: "" });
  t.is(readFileSync(output, "utf8"), `60 - ${"y".repeat(2000)}`);
  t.is(requests.length, 2);
  const verbose = await dpe("get", "-v", "6", "-b", "256", "-o", output, `${plain}/long`);
  t.regex(verbose.stderr, /^2\.05 Content ETag:0x[0-9a-f]{16} ContentFormat 3000 bytes$/m);
  t.is(readFileSync(output, "utf8").length, 3000);
});

test("dpe observe prints each state until its time is over", async (t) => {
  const { plain } = await start(t);
  const { code, stdout } = await dpe("observe", "-s", "2", `${plain}/ticks`);
  t.is(code, 0);
  t.regex(stdout, /^tick 0\ntick 1\ntick 2\n/);
});

/** A CoAP peer by hand on plain UDP: what it was sent, and from where. */
async function listener(t: ExecutionContext, answer: Partial<Message> = {}, answersPings = true) {
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => socket.close());
  const seen: { readonly message: Message; readonly from: SocketAddress; readonly at: number }[] = [];
  socket.onDatagram = (bytes, from) => {
    // A port that somebody else had before gets what was meant for that one.
    if ((bytes[0] ?? 0) >> 6 !== 1) return;
    const message = decodeMessage(bytes);
    seen.push({ message, from: { ...from }, at: performance.now() });
    const isPing = message.code === CODE.Empty;
    if (isPing && !answersPings) return;
    const reply = isPing
      ? { type: MESSAGE_TYPE.Reset, code: CODE.Empty, token: new Uint8Array(0), payload: new Uint8Array(0) }
      : { type: MESSAGE_TYPE.Acknowledgement, code: CODE.Content, payload: new TextEncoder().encode("x"), ...answer };
    socket.send(encodeMessage({ ...message, options: Options.none, ...reply }), from);
  };
  return { uri: `coap://127.0.0.1:${socket.address.port}`, port: socket.address.port, seen };
}

test("what cannot be written is one line and exit code 1, and nothing where the reader has enough", async (t) => {
  const { plain } = await start(t);
  const absent = join(folder(t), "absent", "output");
  const { code, stderr } = await dpe("get", "-o", absent, `${plain}/temperature`);
  t.is(code, 1);
  t.regex(stderr, /^dpe: \S+absent\/output: no such file or folder \(ENOENT\)\n$/);
  const read = await new Promise<string>((resolve) =>
    execFile(
      "sh",
      ["-c", `"$0" "$1" observe -s 20 "$2" | head -n 2`, process.execPath, DPE, `${plain}/ticks`],
      (_, out, err) => resolve(out + err),
    ),
  );
  t.is(read, "tick 0\ntick 1\n");
});

test("-a and -p send from there, -T counts tokens from there, -H, -U and -P say what they are to", async (t) => {
  const { uri, port, seen } = await listener(t);
  const free = await UdpSocket.bind({ host: "127.0.0.2" });
  const own = free.address.port;
  await free.close();
  t.is((await dpe("get", "-a", "127.0.0.2", "-p", `${own}`, "-T", "caf%fe", "-H", "7", `${uri}/a`)).code, 0);
  t.like(seen[0]?.from, { address: "127.0.0.2", port: own });
  t.is(Buffer.from(seen[0]?.message.token ?? []).toString("latin1"), "caf\xfe");
  t.is(seen[0]?.message.options.uint(OPTION.HopLimit), 7);
  t.is((await dpe("get", `coap://localhost:${port}/b`)).code, 0);
  t.is((await dpe("get", "-U", `coap://localhost:${port}/b`)).code, 0);
  t.deepEqual(
    seen.slice(1).map(({ message }) => message.options.uriHost),
    ["localhost", undefined],
  );
  t.is((await dpe("get", "-P", uri, "coap+tcp://far.example/c?d")).code, 0);
  t.deepEqual(seen.at(-1)?.message.options.strings(OPTION.ProxyUri), ["coap+tcp://far.example/c?d"]);
  t.is(seen.at(-1)?.message.options.length, 1);
});

test("-G asks so many times a second apart; -l leaves out what it names, and the request is sent again", async (t) => {
  const { uri, seen } = await listener(t);
  t.like(await dpe("get", "-w", "-G", "3", uri), { code: 0, stdout: "x\nx\nx\n" });
  t.is(seen.length, 3);
  const [first, second, third] = seen.map(({ at }) => at);
  t.true((second ?? 0) - (first ?? 0) > 950 && (third ?? 0) - (second ?? 0) > 950);
  const before = performance.now();
  t.is((await dpe("get", "-l", "1", uri)).code, 0);
  t.is(seen.length, 4);
  t.true((seen[3]?.at ?? 0) - before > 2000, "the retransmission, after ACK_TIMEOUT");
  const lost = await dpe("get", "-l", "100%", "-B", "1", uri);
  t.is(lost.code, 1);
  t.is(seen.length, 4);
  const secure = await start(t);
  const secured = await dpe(
    "get",
    "-l",
    "1-2",
    "-u",
    "alice",
    "-k",
    "0123456789abcdef",
    `${secure.secure}/temperature`,
  );
  t.like(secured, { code: 0, stdout: "21.5" }, "over DTLS too");
});

test("-K asks a silent server whether it lives, and ends where it does not", async (t) => {
  const { uri, seen } = await listener(t, { code: CODE.Empty, token: new Uint8Array(0), payload: new Uint8Array(0) });
  const waiting = await dpe("get", "-K", "1", "-B", "4", uri);
  t.is(waiting.code, 1);
  t.regex(waiting.stderr, /COAP_TIMEOUT/);
  const pings = seen.filter(({ message }) => message.code === CODE.Empty);
  t.true(pings.length >= 2 && pings.length <= 4, `${pings.length} pings`);
  const gone = await listener(t, { options: Options.none.with(OPTION.Observe, 1) }, false);
  const before = performance.now();
  const ended = await dpe("observe", "-K", "1", "-B", "2", "-s", "20", gone.uri);
  t.like(ended, { code: 1, stdout: "x\n" });
  t.regex(ended.stderr, /COAP_TIMEOUT/);
  t.true(performance.now() - before < 15_000);
});

test("-b NUM,SIZE reads on from a block; -L 0 takes one message, 1 writes blocks as they come, 5 goes by Q-Block", async (t) => {
  const { plain } = await start(t, { qBlock: {} });
  const tail = await dpe("get", "-b", "44,64", `${plain}/long`);
  t.is(tail.stdout.length, 3000 - 44 * 64);
  t.is((await dpe("get", "-b", "2,1024", "-w", `${plain}/long`)).stdout, `${"x".repeat(3000 - 2048)}\n`);
  t.is((await dpe("get", "-L", "0", `${plain}/long`)).stdout.length, 1024);
  t.is((await dpe("get", "-L", "1", `${plain}/long`)).stdout.length, 3000);
  t.like(await dpe("get", "-L", "1", `${plain}/absent`), { code: 1, stderr: "dpe: 4.04 Not Found\n" });
  const robust = await dpe("get", "-L", "5", "-v", "6", `${plain}/long`);
  t.is(robust.stdout.length, 3000);
  t.regex(robust.stderr, /3000 bytes/);
});

test("-r goes over TCP and TLS whatever the URI says, with messages of -X bytes at most; --time-outs changes them", async (t) => {
  const { stream, secureStream, csms } = await start(t, {}, true);
  t.like(await dpe("get", "-r", `${stream.replace("coap+tcp", "coap")}/temperature`), { code: 0, stdout: "21.5" });
  t.is((await dpe("get", "-r", "-X", "2000", `${stream.replace("coap+tcp", "coap")}/long`)).stdout.length, 3000);
  t.deepEqual(csms(), [66_560, 2000]);
  t.like(
    await dpe("get", "-r", "-u", "alice", "-k", "0123456789abcdef", `${secureStream.replace("+tcp", "")}/temperature`),
    { code: 0, stdout: "21.5" },
  );
  const { uri, seen } = await listener(t);
  const before = performance.now();
  t.is((await dpe("get", "--time-outs", "fasor", "-l", "1", uri)).code, 0);
  const tookMs = (seen[0]?.at ?? 0) - before;
  // RTO and a quarter to all of SRTT (draft-ietf-core-fasor-02 §4.1).
  t.true(tookMs > 2166, `${tookMs} ms`);
});

test("errors are one line and an exit code: the server's 1, the command line's 2", async (t) => {
  const { plain } = await start(t);
  t.like(await dpe("delete", `${plain}/temperature`), {
    code: 1,
    stdout: "",
    stderr: "dpe: 4.03 Forbidden: not yours: it is the kitchen's\n",
  });
  t.like(await dpe("get", `${plain}/absent`), { code: 1, stderr: "dpe: 4.04 Not Found\n" });
  t.like(await dpe("get", "-B", "1", "coap://127.0.0.1:9/"), {
    code: 1,
    stderr: "dpe: no response within 1000 ms (COAP_TIMEOUT)\n",
  });
  for (const [words, message] of [
    [["get"], /a URI is missing/],
    [["get", "-b", "100", plain], /-b takes/],
    [["get", "-u", "alice", plain], /-u and -k/],
    [["put", "-e", "a", "-f", "b", plain], /-e and -f/],
    [["put", "-f", "/nonexistent", plain], /ENOENT/],
    [["get", "-A", "word", plain], /-A word/],
    [["get", "http://example.net/"], /scheme/],
    [["get", "-x", plain], /-x/],
    [["get", "-m", "put", plain], /the method is the command/],
    [["get", "-M", "key.pem", plain], /raw public keys/],
    [["get", "-J", "1234", plain], /PKCS #11/],
    [["get", "-S", "file", plain], /certificates by server name/],
    [["get", "-a", "localhost", plain], /-a takes an IP address/],
    [["get", "-p", "0", plain], /-p takes/],
    [["get", "-G", "256", plain], /-G takes/],
    [["observe", "-G", "2", plain], /-G does not go with observing/],
    [["get", "-s", "2592000", plain], /-s takes .* 1 to 2073600/],
    [["get", "-H", "0", plain], /-H takes a whole number from 1 to 255/],
    [["get", "-L", "2", plain], /-L 2/],
    [["get", "-L", "8", plain], /-L with 8/],
    [["get", "-r", "-L", "5", plain], /Q-Block is for datagrams/],
    [["get", "-r", "-l", "5", plain], /over TCP there are none/],
    [["get", "-l", "0", plain], /-l takes/],
    [["get", "-l", "101%", plain], /-l takes/],
    [["get", "-X", "2000", plain], /-X is for TCP/],
    [["get", "-r", "-N", plain], /-N is for datagrams/],
    [["get", "-T", "123456789", plain], /-T takes/],
    [["get", "-P", "http://127.0.0.1", plain], /scheme/],
    [["get", "-e", "x", plain], /GET has no payload/],
    [["put", "-e", "x", "-b", "1,64", plain], /-b NUM,SIZE/],
    [["get", "--time-outs", "reno", plain], /--time-outs takes/],
  ] as const) {
    const { code, stderr } = await dpe(...words);
    t.is(code, 2, stderr);
    t.regex(stderr, message);
  }
  t.regex((await dpe("get", "--help")).stdout, /-O NUM,TEXT/);
});

test("dpe get of a port where nobody listens says so within seconds, not after 90", async (t) => {
  t.timeout(60_000);
  const port = await freePort();
  const { code, stdout, stderr } = await dpe("get", `coap://127.0.0.1:${port}/temperature`);
  t.deepEqual([code, stdout], [1, ""]);
  t.is(stderr, `dpe: 127.0.0.1:${port}: nobody listens there (COAP_PEER_CLOSED)\n`);
});
