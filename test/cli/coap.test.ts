import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CODE, CONTENT_FORMAT, OPTION, ResponseError, router, serve } from "#api/index.js";
import { encodePack } from "#senml/index.js";
import { DPE } from "#testing/dpe-program.js";
import test, { type ExecutionContext } from "ava";

function dpe(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [DPE, ...args], { timeout: 30_000 }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
    child.stdin?.end();
  });
}

async function start(t: ExecutionContext) {
  const requests: string[] = [];
  const note = (incoming: { readonly code: number; readonly options: { readonly uriPath: readonly string[] } }) =>
    requests.push(`${incoming.code} ${incoming.options.uriPath.join("/")}`);
  const server = await serve(
    router()
      .get("/temperature", () => "21.5")
      .get("/long", () => "x".repeat(3000))
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
      .delete("/temperature", () => {
        throw new ResponseError(CODE.Forbidden, { title: "not yours", detail: "it is the kitchen's" });
      }),
    {
      host: "127.0.0.1",
      port: 0,
      dtls: { port: 0, pskOf: (identity) => (identity === "alice" ? "0123456789abcdef" : undefined) },
    },
  );
  t.teardown(() => server.close());
  return {
    requests,
    plain: `coap://127.0.0.1:${server.address?.port}`,
    secure: `coaps://127.0.0.1:${server.secureAddress?.port}`,
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
    stdout: '[{"name":"t","value":1.5,"timeSeconds":1700000000}]\n',
  });
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
  ] as const) {
    const { code, stderr } = await dpe(...words);
    t.is(code, 2, stderr);
    t.regex(stderr, message);
  }
  t.regex((await dpe("get", "--help")).stdout, /-O NUM,TEXT/);
});
