/** What the load asks for, and every server answers: `GET /b` → 2.05 "hello". */
export const PATH = "b";
export const PAYLOAD = "hello";

/** Of the PSK sessions. */
export const IDENTITY = "bench";
export const KEY = "0123456789abcdef";
