import { wireTable } from "./wire-bytes.js";

process.stdout.write(`${await wireTable()}\n`);
