/* bench/peer.js - node's own http beside weft, in the section `faults`: two processes, started again when they die.
 *
 *   node peer.js PORT UPSTREAM_PORT FILE
 *
 *   /json /api /files/big /crash/segv     as plugins/bench, plugins/static and tests/plugins/crash have them
 */
'use strict';

const cluster = require('cluster');
const fs = require('fs');
const http = require('http');

const [port, upstreamPort, file] = process.argv.slice(2);
const agent = new http.Agent({keepAlive: true, maxSockets: 256});

function send(response, status, type, body)
{
    response.writeHead(status, {'Content-Type': type, 'Content-Length': Buffer.byteLength(body)});
    response.end(body);
}

function callUpstream(response)
{
    const call = http.get({port: upstreamPort, host: '127.0.0.1', path: '/quote', agent, timeout: 2000}, (answer) => {
        let body = '';
        answer.on('data', (piece) => body += piece);
        answer.on('end', () => send(response, 200, 'application/json', body));
    });
    call.on('timeout', () => call.destroy(new Error('timeout')));
    call.on('error', () => send(response, 504, 'text/plain', 'the upstream does not answer\n'));
}

function serve(request, response)
{
    if (request.url === '/json') {
        send(response, 200, 'application/json', JSON.stringify({message: 'Hello, World!'}));
    } else if (request.url === '/api') {
        callUpstream(response);
    } else if (request.url === '/files/big') {
        response.writeHead(200, {'Content-Length': fs.statSync(file).size});
        fs.createReadStream(file).on('error', () => response.destroy()).pipe(response);
    } else if (request.url === '/crash/segv') {
        process.kill(process.pid, 'SIGSEGV');
    } else {
        send(response, 404, 'text/plain', 'not found\n');
    }
}

if (cluster.isPrimary) {
    cluster.fork();
    cluster.fork();
    cluster.on('exit', () => cluster.fork());
} else {
    http.createServer({keepAliveTimeout: 60000}, serve).listen(Number(port), '127.0.0.1');
}
