// In CommonJS, so that it can be loaded in the midst of a handshake, and be a file of its own beside the bundle.
// The library's containers ask for this polyfill as they are loaded.
require("reflect-metadata");
module.exports = require("@peculiar/x509");
