// Drives the admin page in Chromium; see `scripts/browser-test`.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

const shots = process.argv[2];
const require = createRequire(path.join(process.env.BROWSER_TEST_TOOLS, 'package.json'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const TOKEN = 'a-token-for-the-browser-test';
const ODD = '<img src=x onerror=alert(1)>';

// ---- the server, and a way to it that can be cut ----

class Server {
  constructor(port) {
    this.port = port;
  }

  async start(...more) {
    const args = ['--port', String(this.port), '--token', TOKEN, ...more];
    this.process = spawn(process.env.BROWSER_TEST_EXAMPLE, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    this.process.stdout.on('data', (data) => (said += data));
    const address = await until('the server says where its page is', () => /page: http:\/\/127\.0\.0\.1:(\d+)/.exec(said));
    this.port = Number(address[1]);
  }

  async stop() {
    const ended = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill('SIGKILL');
    await ended;
  }

  async get(what) {
    const answer = await fetch(`http://127.0.0.1:${this.port}${what}`, { headers: { accept: 'application/json' } });
    return (answer.headers.get('content-type') || '').includes('json') ? answer.json() : answer.text();
  }

  api(what) {
    return this.get(`/ops/buttress/api/${what}`);
  }

  async breaker(name = 'payments/circuit_breaker') {
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

async function open(width, height, colorScheme, at = '/ops/buttress') {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme, reducedMotion: 'reduce' });
  page.on('pageerror', (error) => wrong.push(`error in the page: ${error.message}`));
  page.on('dialog', (dialog) => {
    wrong.push(`the page was made to show: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('console', (message) => {
    // A connection that is lost is told by the browser itself.
    const lost = /ERR_CONNECTION|ERR_EMPTY_RESPONSE|ERR_INCOMPLETE_CHUNKED|401 \(Unauthorized\)/;
    if (message.type() === 'error' && !lost.test(message.text())) wrong.push(`console: ${message.text()}`);
  });
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(`${home}/`) && !url.startsWith('data:')) wrong.push(`it asked another host: ${url}`);
  });
  await page.goto(`${home}${at}`);
  await isLive(page);
  return page;
}

const linkText = (page) => page.locator('#link-text').textContent();
const isLive = (page) => until('the page is live', async () => (await linkText(page)) === 'live');
const stack = (page, name) => page.locator('article.stack', { has: page.getByRole('heading', { name, exact: true }) });
const badge = (page, name = 'payments') => stack(page, name).locator('.badge').first().textContent();
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
          const payments = heads.find((one) => one.querySelector('h2').textContent === 'payments');
          if (payments && payments.querySelector(`.badge[data-state="${state}"]`)) resolve(Date.now());
          else requestAnimationFrame(look);
        };
        look();
      }),
    state,
  );

async function command(page, { choice, reason, token, ttl }) {
  await stack(page, 'payments').getByRole('button', { name: 'Command… payments/circuit_breaker' }).click();
  await page.getByRole('radio', { name: choice }).check();
  if (ttl) await page.locator('#ttl').selectOption(ttl);
  await page.locator('#reason').fill(reason);
  if (token) await page.locator('#token').fill(token);
  await page.locator('#send').click();
}

try {
  const page = await open(1440, 900, 'light');

  await step('the page stands, with and without a slash at the end', async () => {
    assert.equal(await badge(page), 'closed');
    assert.equal(await page.title(), 'shop');
    const other = await open(1440, 900, 'light', '/ops/buttress/');
    await other.close();
  });

  await step('a breaker opens, and the page shows it within a second', async () => {
    const shown = shownAt(page, 'open');
    await server.get('/sick?600');
    const at = await shown;
    const { events } = await server.api('events?after=0&limit=1000');
    const opened = events.find((event) => event.what === 'transition' && event.name === 'payments/circuit_breaker' && event.to === 'open');
    const late = at - Date.parse(opened.at);
    assert.ok(late <= 1000, `shown ${late} ms after it opened`);
    const sees = stack(page, 'payments').locator('.caller');
    assert.match(await sees.textContent(), /503, retry after \d+ s: circuit open, .*failure rate \d/);
    await until('the title says so', async () => (await page.title()) === '(1) shop');
    return `${late} ms after it opened`;
  });

  await step('screenshots of the incident', async () => {
    // Long enough for a minute that tells something, and for all pictures to show the same.
    await wait(9000);
    const lasts = (now) => now.state === 'open' && now.since_seconds > 2 && now.until_seconds > 4;
    await until('it is open, and will be', async () => lasts(await server.breaker()), 60_000);
    await until('the page says so', async () => (await badge(page)) === 'open');
    await shot(page, 'desktop-light');
    await sound(page, 'desktop, light');
    const dark = await open(1440, 900, 'dark');
    await shot(dark, 'desktop-dark');
    await sound(dark, 'desktop, dark');
    await dark.close();
    const phone = await open(390, 844, 'light');
    await stack(phone, 'payments').scrollIntoViewIfNeeded();
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
    const over = stack(page, 'payments').locator('.override').first();
    await until('who and why', async () => /^Forced open by on call: upstream is <b>being moved<\/b> \(ends in 1[45] min/.test(await over.textContent()));
    await until('the event', async () => (await page.locator('#events li').allTextContents()).some((text) => text.includes('force open for 15 min, by on call: upstream is <b>being moved</b>')));
    await shot(page, 'forced-open');

    await server.get('/well');
    await command(page, { choice: 'Close', reason: 'moved' });
    await until('it is closed', async () => (await badge(page)) === 'closed');
    assert.equal((await server.breaker()).state, 'closed');
    assert.equal(await over.isVisible(), false);
    return `shown ${late} ms after the first key`;
  });

  await step('the keyboard alone gets there and back', async () => {
    const button = stack(page, 'payments').getByRole('button', { name: 'Command… payments/circuit_breaker' });
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
    await server.get('/sick?3');
    await until('it opened', async () => (await server.breaker()).state === 'open', 15_000);
    const mended = Date.now();
    way.mend();
    await isLive(page);
    const back = Date.now() - mended;
    assert.equal(await page.locator('#lost').isVisible(), false);
    const items = page.locator('#events li', { hasText: 'payments/circuit_breaker' }).filter({ hasText: '→ open' });
    // It may open again at any time, so both are looked at until they agree.
    await until('each opening is told once', async () => {
      const { events } = await server.api('events?after=0&limit=1000');
      const opened = events.filter((event) => event.name === 'payments/circuit_breaker' && event.to === 'open').length;
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
    await server.start('--odd-names');
    await isLive(page);
    const lines = await page.locator('#events li').allTextContents();
    assert.ok(lines.includes('Another process answers since here.'), lines.slice(0, 3).join('\n'));
    assert.equal(await badge(page), 'closed');
  });

  await step('a name with markup is text', async () => {
    assert.equal(await stack(page, ODD).count(), 1);
    assert.match(await stack(page, ODD).textContent(), /<b>slots<\/b>/);
    await stack(page, ODD).getByRole('button', { name: `Resize… ${ODD}/<b>slots</b>` }).click();
    assert.equal(await page.locator('#dialog-title').textContent(), `${ODD}/<b>slots</b>`);
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
}
