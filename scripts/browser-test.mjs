// Drives the admin page in Chromium; see `scripts/browser-test`.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

const [shots, wholeMinute] = process.argv.slice(2);
const require = createRequire(path.join(process.env.BROWSER_TEST_TOOLS, 'package.json'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const TOKEN = 'a-token-for-the-browser-test';
// Calls per second: two of three go to the upstream, the others to the image servers.
const RATE = 60;
const UPSTREAM = 'upstream';
const BREAKER = 'upstream/circuit_breaker';
const ODD = '<img src=x onerror=alert(1)>';

// ---- the settings: the gateway's own, but that the breaker stays open long enough to be looked at ----

const settings = path.join(mkdtempSync(path.join(tmpdir(), 'browser-test-')), 'gateway.toml');
const ownSettings = readFileSync(process.env.BROWSER_TEST_SETTINGS, 'utf8').replace(
  'open = { wait = "250ms", factor = 2.0, max = "500ms" }',
  'open = { wait = "4s", factor = 2.0, max = "16s" }',
);
assert.match(ownSettings, /wait = "4s"/, 'the settings of the gateway have the line that is to be another one here');
const oddSettings = `${ownSettings}
[stacks."${ODD}"]
order = ["<b>slots"]
"<b>slots" = { kind = "bulkhead", max_concurrent = 4 }

[stacks."<script>"]
timeout = "1s"
`;
writeFileSync(settings, ownSettings);

// ---- the gateway, and a way to it that can be cut ----

class Server {
  constructor(port) {
    this.port = port;
  }

  async start() {
    const args = ['--serve', '--rate', RATE, '--admin', `127.0.0.1:${this.port}`, '--token', TOKEN, '--config', settings];
    this.process = spawn(process.env.BROWSER_TEST_GATEWAY, args.map(String), { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    this.process.stdout.on('data', (data) => (said += data));
    const find = (what) => until(`the gateway says where it is: ${what}`, () => what.exec(said));
    this.upstream = (await find(/-> upstream (http:\S+)/))[1];
    this.images = (await find(/Image servers, for \S+ (.*)\n/))[1].split(' ');
    this.port = Number((await find(/Admin page http:\/\/127\.0\.0\.1:(\d+)\//))[1]);
  }

  async stop() {
    const ended = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill('SIGKILL');
    await ended;
  }

  // Makes the upstream or an image server healthy, slow, failing or hanging.
  async make(health, of = this.upstream) {
    const answer = await fetch(`${of}/-/${health}`, { method: 'POST' });
    assert.equal(answer.status, 200);
  }

  async api(what) {
    const answer = await fetch(`http://127.0.0.1:${this.port}/api/${what}`, { headers: { accept: 'application/json' } });
    return answer.json();
  }

  async breaker(name = BREAKER) {
    const { snapshot } = await this.api(`policies/${encodeURIComponent(name)}`);
    return snapshot;
  }
}

// Passes bytes between the browser and the server, until it is cut.
class Way {
  constructor(server) {
    this.sockets = new Set();
    this.open = true;
    this.listener = net.createServer((one) => {
      if (!this.open) {
        one.destroy();
        return;
      }
      const other = net.connect(server.port, '127.0.0.1');
      for (const [from, to] of [[one, other], [other, one]]) {
        this.sockets.add(from);
        from.pipe(to);
        from.on('error', () => to.destroy());
        from.on('close', () => {
          this.sockets.delete(from);
          to.destroy();
        });
      }
    });
  }

  async listen() {
    await new Promise((resolve) => this.listener.listen(0, '127.0.0.1', resolve));
    this.port = this.listener.address().port;
  }

  cut() {
    this.open = false;
    for (const socket of this.sockets) socket.destroy();
  }

  mend() {
    this.open = true;
  }

  close() {
    this.cut();
    this.listener.close();
  }
}

// A proxy that takes a prefix away: what a page that is nested somewhere is reached by.
async function nestedAt(prefix) {
  const proxy = http.createServer((request, response) => {
    if (!request.url.startsWith(prefix)) {
      response.writeHead(404).end();
      return;
    }
    const rest = request.url.slice(prefix.length) || '/';
    const { method, headers } = request;
    const inner = http.request({ port: server.port, path: rest, method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    inner.on('error', () => response.destroy());
    response.on('close', () => inner.destroy());
    request.pipe(inner);
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  return { origin: `http://127.0.0.1:${proxy.address().port}`, close: () => proxy.close() };
}

async function until(what, look, patience = 10_000) {
  const end = Date.now() + patience;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    assert.ok(Date.now() < end, `in vain: ${what}`);
    await wait(25);
  }
}

async function step(name, run) {
  const begun = Date.now();
  const note = await run();
  console.log(`ok: ${name}${note ? ` (${note})` : ''}, ${Date.now() - begun} ms`);
}

// ---- the page ----

const server = new Server(0);
await server.start();
const way = new Way(server);
await way.listen();
const home = `http://127.0.0.1:${way.port}`;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});

const wrong = [];

async function open(width, height, colorScheme, origin = home, at = '/') {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme, reducedMotion: 'reduce' });
  page.on('pageerror', (error) => wrong.push(`error in the page: ${error.message}`));
  page.on('dialog', (dialog) => {
    wrong.push(`the page was made to show: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('console', (message) => {
    // A connection that is lost, and a command that is refused, are told by the browser itself.
    const lost = /net::ERR_|401 \(Unauthorized\)|409 \(Conflict\)/;
    if (message.type() === 'error' && !lost.test(message.text())) wrong.push(`console: ${message.text()}`);
  });
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(`${origin}/`) && !url.startsWith('data:')) wrong.push(`it asked another host: ${url}`);
  });
  await page.goto(`${origin}${at}`);
  await isLive(page);
  return page;
}

const linkText = (page) => page.locator('#link-text').textContent();
const isLive = (page) => until('the page is live', async () => (await linkText(page)) === 'live');
const stack = (page, name) => page.locator('article.stack', { has: page.getByRole('heading', { name, exact: true }) });
const badge = (page, name = UPSTREAM) => stack(page, name).locator('.badge').first().textContent();
const shot = (page, name, options = {}) => page.screenshot({ path: path.join(shots, `${name}.png`), ...options });

async function sound(page, name) {
  const found = await page.evaluate(`${axe}; axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] })`);
  const faults = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 160)).join(' | ')}`);
  assert.deepEqual(faults, [], `accessibility, ${name}`);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wider <= 0, `${name}: nothing stands out to the right, but ${wider} px do`);
}

// In the page, so that how long it takes to ask is no part of it.
const shownAt = (page, state) =>
  page.evaluate(
    (state) =>
      new Promise((resolve) => {
        const look = () => {
          const heads = [...document.querySelectorAll('article.stack')];
          const upstream = heads.find((one) => one.querySelector('h2').textContent === 'upstream');
          if (upstream && upstream.querySelector(`.badge[data-state="${state}"]`)) resolve(Date.now());
          else requestAnimationFrame(look);
        };
        look();
      }),
    state,
  );

async function command(page, { choice, reason, token, ttl }) {
  await stack(page, UPSTREAM).getByRole('button', { name: `Command… ${BREAKER}` }).click();
  await page.getByRole('radio', { name: choice }).check();
  if (ttl) await page.locator('#ttl').selectOption(ttl);
  await page.locator('#reason').fill(reason);
  if (token) await page.locator('#token').fill(token);
  await page.locator('#send').click();
}

try {
  const page = await open(1440, 1032, 'light');

  await step('the page stands, also nested behind a proxy, with and without a slash at the end', async () => {
    assert.equal(await badge(page), 'closed');
    assert.equal(await page.title(), 'gateway');
    const proxy = await nestedAt('/ops/buttress');
    for (const at of ['/ops/buttress', '/ops/buttress/']) {
      const other = await open(1440, 900, 'light', proxy.origin, at);
      await other.close();
    }
    proxy.close();
  });

  await step('every stack and every policy shows its calls per second', async () => {
    const shown = async (place) => Number.parseFloat(await place.textContent());
    const about = (wanted, seen) => seen > wanted * 0.8 && seen < wanted * 1.2;
    const paces = { gateway: RATE, images: RATE / 3, [UPSTREAM]: (RATE * 2) / 3 };
    for (const [name, wanted] of Object.entries(paces)) {
      const place = stack(page, name).locator('.pace');
      await until(`${name}: about ${wanted} calls per second`, async () => about(wanted, await shown(place)), 20_000);
      assert.ok((await place.locator('path').count()) > 0, `${name}: a picture of its calls`);
    }
    const policies = stack(page, UPSTREAM).locator('.stage .paced');
    assert.equal(await policies.count(), 4);
    for (const policy of await policies.all()) {
      await until('the policies, too', async () => about(paces[UPSTREAM], await shown(policy)));
    }
    // The page and the interface tell the same.
    const { stacks } = await server.api('stacks');
    const { calls } = stacks.find(({ name }) => name === UPSTREAM).stages[1];
    assert.ok(calls.success > 0 && calls.rejected === 0, JSON.stringify(calls));
  });

  await step('the last minute of each key is to be seen', async () => {
    const keys = stack(page, 'images').locator('tbody tr');
    await until('all image servers', async () => (await keys.count()) === server.images.length);
    assert.match(await stack(page, 'images').textContent(), /Each has circuit breaker → timeout → bulkhead · 3 keys by authority/);
    for (const row of await keys.all()) assert.equal(await row.locator('td.minute path').count(), 1);
    if (wholeMinute) await wait(45_000);
    const [sick] = server.images;
    await server.make('hanging', sick);
    const row = stack(page, 'images').locator('tbody tr', { hasText: sick });
    const minute = row.locator('td.minute svg');
    await until('its breaker opens', async () => (await row.locator('.badge').textContent()) === 'open', 20_000);
    await until('it was open', async () => (await minute.locator('.b-open').count()) > 0);
    await until('calls were refused', async () => (await minute.locator('.s-bar').count()) > 0);
    assert.match(await minute.getAttribute('aria-label'), /^The last minute: failures now \d+ %, at most \d+ %; closed \d+ s, open \d+ s/);
    for (const well of server.images.slice(1)) {
      const other = stack(page, 'images').locator('tbody tr', { hasText: well });
      assert.equal(await other.locator('td.minute .b-open').count(), 0, 'no other key has it');
    }
  });

  await step('a breaker opens, and the page shows it within a second', async () => {
    const shown = shownAt(page, 'open');
    await server.make('failing');
    const at = await shown;
    const { events } = await server.api('events?after=0&limit=1000');
    const opened = events.find((event) => event.what === 'transition' && event.name === BREAKER && event.to === 'open');
    const late = at - Date.parse(opened.at);
    assert.ok(late <= 1000, `shown ${late} ms after it opened`);
    const sees = stack(page, UPSTREAM).locator('.caller');
    assert.match(await sees.textContent(), /503, retry after \d+ s: circuit open, .*failure rate \d/);
    await until('the title says so', async () => (await page.title()) === '(1) gateway');
    return `${late} ms after it opened`;
  });

  await step('screenshots of the incident', async () => {
    // Long enough for a minute that tells something, and for all pictures to show the same.
    await wait(9000);
    const [sick] = server.images;
    await until('both are open, and will be', async () => {
      const image = await server.breaker(`images/circuit_breaker[${sick}]`);
      const now = await server.breaker();
      const lasts = now.state === 'open' && now.since_seconds > 2 && now.since_seconds < 6 && now.until_seconds > 4;
      return lasts && image.state === 'open' && image.since_seconds > 1 && image.until_seconds > 2;
    }, 60_000);
    await until('the page says so', async () => (await badge(page)) === 'open');
    await shot(page, 'desktop-light');
    await sound(page, 'desktop, light');
    const dark = await open(1440, 900, 'dark');
    await shot(dark, 'desktop-dark');
    await sound(dark, 'desktop, dark');
    await dark.close();
    const phone = await open(390, 844, 'dark');
    await stack(phone, UPSTREAM).evaluate((node) => scrollTo(0, node.getBoundingClientRect().top + scrollY - 10));
    await shot(phone, 'phone');
    await shot(phone, 'phone-whole', { fullPage: true });
    await sound(phone, 'phone');
    await phone.close();
  });

  await step('a token that is not known is refused, and said so', async () => {
    await command(page, { choice: 'Force open', reason: 'a drill', token: 'not-a-token-of-this-server' });
    await until('the problem is told', async () => (await page.locator('#problem').textContent()) === 'This token is not known.');
    assert.notEqual((await server.breaker()).state, 'forced_open');
    await shot(page, 'command');
    await sound(page, 'the dialog');
    await page.keyboard.press('Escape');
  });

  await step('an operator forces it open, and back', async () => {
    const shown = shownAt(page, 'forced_open');
    const begun = Date.now();
    await command(page, { choice: 'Force open', reason: 'upstream is <b>being moved</b>', token: TOKEN });
    const late = (await shown) - begun;
    assert.equal((await server.breaker()).state, 'forced_open');
    const over = stack(page, UPSTREAM).locator('.override').first();
    await until('who and why', async () => /^Forced open by operator: upstream is <b>being moved<\/b> \(ends in 1[45] min/.test(await over.textContent()));
    await until('the event', async () => (await page.locator('#events li').allTextContents()).some((text) => text.includes('force open for 15 min, by operator: upstream is <b>being moved</b>')));
    await shot(page, 'forced-open');

    await server.make('healthy');
    await command(page, { choice: 'Close', reason: 'moved' });
    await until('it is closed', async () => (await badge(page)) === 'closed');
    assert.equal((await server.breaker()).state, 'closed');
    assert.equal(await over.isVisible(), false);
    return `shown ${late} ms after the first key`;
  });

  await step('the keyboard alone gets there and back', async () => {
    const button = stack(page, UPSTREAM).getByRole('button', { name: `Command… ${BREAKER}` });
    await button.focus();
    await page.keyboard.press('Enter');
    assert.ok(await page.locator('#dialog').isVisible());
    await page.keyboard.press('Escape');
    assert.ok(await button.evaluate((node) => node === document.activeElement), 'the focus is back');
  });

  await step('the connection drops, the page says so, and it returns by itself', async () => {
    way.cut();
    const begun = Date.now();
    await until('the page says so', async () => (await linkText(page)) === 'not connected');
    const noticed = Date.now() - begun;
    assert.match(await page.locator('#lost').textContent(), /The connection is lost\. What you see is of \d\d:\d\d:\d\d\./);
    await shot(page, 'lost');
    await sound(page, 'without a connection');
    // Something happens meanwhile.
    await server.make('failing');
    await until('it opened', async () => (await server.breaker()).state === 'open', 15_000);
    await server.make('healthy');
    const mended = Date.now();
    way.mend();
    await isLive(page);
    const back = Date.now() - mended;
    assert.equal(await page.locator('#lost').isVisible(), false);
    const items = page.locator('#events li', { hasText: BREAKER }).filter({ hasText: '→ open' });
    // It may open again at any time, so both are looked at until they agree.
    await until('each opening is told once', async () => {
      const { events } = await server.api('events?after=0&limit=1000');
      const opened = events.filter((event) => event.name === BREAKER && event.to === 'open').length;
      return opened > 1 && (await items.count()) === opened;
    });
    return `noticed after ${noticed} ms, back after ${back} ms`;
  });

  await step('a connection that stands still is noticed too', async () => {
    for (const socket of way.sockets) socket.pause();
    await until('the page says so', async () => (await linkText(page)) === 'not connected', 8_000);
    await until('it takes up another', async () => (await linkText(page)) === 'live', 20_000);
  });

  await step('another process in place of the first is told', async () => {
    await server.stop();
    await until('the page says so', async () => (await linkText(page)) === 'not connected');
    await server.start();
    await isLive(page);
    const lines = await page.locator('#events li').allTextContents();
    assert.ok(lines.includes('Another process answers since here.'), lines.slice(0, 3).join('\n'));
    assert.equal(await badge(page), 'closed');
  });

  await step('settings that are wrong are not taken, and the page says so', async () => {
    writeFileSync(settings, `${ownSettings}\n[stacks."${ODD}"]\ntimeout = "${ODD}"\n`);
    await until('the event', async () => (await page.locator('#events').textContent()).includes(ODD));
    await until('the count', async () => (await page.locator('#summary').textContent()).includes('1 reload refused'));
    await page.getByRole('button', { name: 'Reload settings…' }).click();
    await page.locator('#reason').fill('once more');
    await page.locator('#send').click();
    await until('all that is wrong', async () => (await page.locator('#problem').textContent()).includes(ODD));
    await page.keyboard.press('Escape');
  });

  await step('a name with markup is text', async () => {
    writeFileSync(settings, oddSettings);
    await until('the new stack', async () => (await stack(page, ODD).count()) === 1);
    assert.equal(await stack(page, '<script>').count(), 1);
    assert.match(await stack(page, ODD).textContent(), /<b>slots/);
    await stack(page, ODD).getByRole('button', { name: `Resize… ${ODD}/<b>slots` }).click();
    assert.equal(await page.locator('#dialog-title').textContent(), `${ODD}/<b>slots`);
    await page.locator('#limit').fill('2');
    await page.locator('#reason').fill('<script>alert(2)</script>');
    await page.locator('#send').click();
    await until('the event', async () => (await page.locator('#events li').first().textContent()).includes('<script>alert(2)</script>'));
    assert.equal(await page.locator('img, article b b, li script').count(), 0);
    await shot(page, 'markup');
  });

  assert.deepEqual(wrong, []);
  console.log(`all is well; screenshots are in ${shots}`);
} finally {
  await browser.close();
  way.close();
  await server.stop();
  rmSync(path.dirname(settings), { recursive: true });
}
