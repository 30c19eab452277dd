'use strict';
// The page of a registry. It shows what the stream `api/live` tells, and sends commands to `api/commands`.
// Whatever comes from outside goes into the document as text nodes and plain attributes, never as markup.
(() => {
  const SAMPLES = 60;
  const MOST_EVENTS = 200;
  const STALE_AFTER = 3500;
  // Calls per second are the mean of so many seconds.
  const PACED_OVER = 5;
  const SVG = 'http://www.w3.org/2000/svg';

  // Nested anywhere, with or without a slash at the end.
  const base = location.pathname.endsWith('/') ? location.pathname : `${location.pathname}/`;
  const api = (path) => `${base}api/${path}`;
  const $ = (id) => document.getElementById(id);

  // ---- the document ----

  function make(tag, attributes, ...children) {
    return fill(document.createElement(tag), attributes, children);
  }

  function draw(tag, attributes, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
  }

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      node.setAttribute(name, value === true ? '' : String(value));
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  function say(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  function mark(node, name, value) {
    if (value === null || value === undefined || value === false) node.removeAttribute(name);
    else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
  }

  function show(node, visible) {
    if (node.hidden === visible) node.hidden = !visible;
  }

  function announce(text) {
    $('announce').textContent = text;
  }

  // ---- words ----

  const STATES = {
    closed: 'closed',
    open: 'open',
    half_open: 'half-open',
    forced_open: 'forced open',
    disabled: 'disabled',
    metrics_only: 'metrics only',
  };

  const KINDS = {
    circuit_breaker: 'circuit breaker',
    retry: 'retry',
    timeout: 'timeout',
    bulkhead: 'bulkhead',
    fallback: 'fallback',
  };

  // One shape for each state, so that color is never alone.
  const SHAPES = {
    closed: ['M3 8.5 6.5 12 13 4.5'],
    open: ['M3.5 3.5l9 9', 'M12.5 3.5l-9 9'],
    forced_open: ['M3 7.5h10v6H3z', 'M5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5'],
    half_open: ['M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11z', 'M8 2.5v11', 'M10 4v8', 'M12 5v6'],
    disabled: ['M5.5 3v10', 'M10.5 3v10'],
    metrics_only: ['M3 13V9', 'M8 13V3', 'M13 13V6.5'],
    full: ['M2.5 3.5h11v9h-11z', 'M6 3.5v9', 'M10 3.5v9'],
    note: ['M8 3v6', 'M8 12.5v.5'],
  };

  function icon(shape) {
    const paths = SHAPES[shape] || SHAPES.note;
    return draw(
      'svg',
      { viewBox: '0 0 16 16', 'aria-hidden': 'true', fill: 'none', stroke: 'currentColor', 'stroke-width': 2, 'stroke-linecap': 'round' },
      ...paths.map((d) => draw('path', { d })),
    );
  }

  function lasting(seconds) {
    if (seconds === null || seconds === undefined) return '';
    if (seconds === 0) return '0 s';
    if (seconds < 0.001) return `${trim(seconds * 1e6)} µs`;
    if (seconds < 0.9995) return `${trim(seconds * 1000)} ms`;
    if (seconds < 10) return `${trim(Math.round(seconds * 10) / 10)} s`;
    const whole = Math.round(seconds);
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) return join(Math.floor(whole / 60), 'min', whole % 60, 's');
    if (whole < 86400) return join(Math.floor(whole / 3600), 'h', Math.floor((whole % 3600) / 60), 'min');
    return join(Math.floor(whole / 86400), 'd', Math.floor((whole % 86400) / 3600), 'h');
  }

  // Whole seconds: for what is looked at as it goes by.
  const ticking = (seconds) => lasting(seconds < 10 ? Math.floor(seconds) : seconds);
  const leaving = (seconds) => lasting(Math.ceil(seconds));
  const join = (one, unit, other, small) => (other ? `${one} ${unit} ${other} ${small}` : `${one} ${unit}`);
  const trim = (number) => String(Math.round(number * 10) / 10);
  const count = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, '\u202f');
  const many = (number, one, more) => `${count(number)} ${number === 1 ? one : more}`;

  // Calls per second.
  const pace = (rate) => (rate > 0 && rate < 10 ? trim(rate) : count(Math.round(rate)));

  function percent(fraction) {
    const value = fraction * 100;
    return `${value > 0 && value < 10 ? trim(value) : Math.round(value)} %`;
  }

  function clock(at) {
    const time = new Date(at);
    const two = (number) => String(number).padStart(2, '0');
    return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  }

  // ---- pictures ----

  function bar(x, y, width, height, kind) {
    return draw('rect', { x, y, width, height, class: kind });
  }

  // Each call of a short window is a bar: low for a success, half for a slow one, full for a failure. Of a longer one, and
  // of a time window, each bar is several calls: failures at the bottom, then slow ones, then the others.
  function paintWindow(svg, shape, cells) {
    const each = shape.per_cell;
    let slots = cells.length;
    if (shape.kind === 'calls') slots = Math.ceil(shape.size / each);
    slots = Math.max(slots, 10);
    const single = shape.kind === 'calls' && each === 1;
    const largest = Math.max(1, ...cells.map((cell) => cell[0]));
    const bars = [];
    const width = 0.78;
    for (let at = 0; at < slots; at += 1) {
      const x = at + (1 - width) / 2;
      const [calls, failed, slow, slowFailed] = cells[at] || [0, 0, 0, 0];
      if (calls === 0) {
        if (shape.kind !== 'calls' || at < Math.ceil(shape.size / each)) bars.push(bar(x, 9.4, width, 0.6, 'w-empty'));
        continue;
      }
      if (single) {
        if (failed) bars.push(bar(x, 0.6, width, 9.4, 'w-failed'));
        else if (slow) bars.push(bar(x, 4, width, 6, 'w-slow'));
        else bars.push(bar(x, 6.6, width, 3.4, 'w-ok'));
        continue;
      }
      const height = shape.kind === 'time' ? (9.4 * calls) / largest : (9.4 * calls) / each;
      const part = (number) => (height * number) / calls;
      const onlySlow = slow - slowFailed;
      let y = 10;
      for (const [number, kind] of [[failed, 'w-failed'], [onlySlow, 'w-slow'], [calls - failed - onlySlow, 'w-ok']]) {
        if (number <= 0) continue;
        y -= part(number);
        bars.push(bar(x, y, width, part(number), kind));
      }
    }
    mark(svg, 'viewBox', `0 0 ${slots} 10`);
    svg.replaceChildren(...bars);
  }

  // The last minute, newest at the right. `most` is the value at the upper edge.
  function paintSpark(svg, samples, most, limit) {
    const [step, height, edge] = [2, 34, 3];
    const first = SAMPLES - samples.length;
    const x = (at) => (first + at) * step;
    const y = (value) => height - edge - (Math.min(value, most) / most) * (height - 2 * edge);
    // So that nothing at all is told from nothing known.
    const parts = [draw('line', { x1: x(0), x2: SAMPLES * step, y1: height - 0.5, y2: height - 0.5, class: 's-base' })];
    let begun = 0;
    samples.forEach((sample, at) => {
      const next = samples[at + 1];
      if (next && next.state === sample.state) return;
      if (sample.state && sample.state !== 'closed') {
        parts.push(bar(x(begun), 0, x(at + 1) - x(begun), height, `b-${sample.state}`));
      }
      begun = at + 1;
    });
    const rejected = Math.max(0, ...samples.map((sample) => sample.rejected));
    samples.forEach((sample, at) => {
      if (sample.rejected === 0) return;
      const tall = Math.max(2, (sample.rejected / rejected) * height * 0.45);
      parts.push(bar(x(at) + 0.3, height - tall, step - 0.6, tall, 's-bar'));
    });
    if (limit !== null && limit !== undefined) {
      parts.push(draw('line', { x1: 0, x2: SAMPLES * step, y1: y(limit), y2: y(limit), class: 's-limit' }));
    }
    let path = '';
    let pen = 'M';
    samples.forEach((sample, at) => {
      if (sample.value === null) {
        pen = 'M';
        return;
      }
      path += `${pen}${x(at)} ${y(sample.value).toFixed(2)}H${x(at + 1)}`;
      pen = 'L';
    });
    if (path) parts.push(draw('path', { d: path, class: 's-line' }));
    svg.replaceChildren(...parts);
  }

  // The calls of the last minute, from nothing at the lower edge to the most at the upper one.
  function paintTraffic(svg, samples) {
    const [height, first] = [20, SAMPLES - samples.length];
    const most = Math.max(1, ...samples.map((sample) => sample.calls || 0));
    const y = (calls) => (height - 1 - (calls / most) * (height - 3)).toFixed(2);
    let line = '';
    samples.forEach((sample, at) => {
      line += `${line ? 'L' : 'M'}${first + at} ${y(sample.calls || 0)}H${first + at + 1}`;
    });
    if (!line) {
      svg.replaceChildren();
      return;
    }
    svg.replaceChildren(
      draw('path', { d: `${line}V${height}H${first}Z`, class: 's-area' }),
      draw('path', { d: line, class: 's-line' }),
    );
  }

  const picture = () => draw('svg', { class: 'picture', role: 'img', preserveAspectRatio: 'none', viewBox: '0 0 10 10' });
  const sparkline = () =>
    draw('svg', { class: 'spark', role: 'img', preserveAspectRatio: 'none', viewBox: `0 0 ${SAMPLES * 2} 34` });

  // A label with two ends, and what it is the label of.
  function part(...below) {
    const [left, right] = [make('span'), make('span')];
    const root = make('div', { class: 'part' }, make('div', { class: 'label' }, left, right), ...below);
    return { root, left, right };
  }

  function meter() {
    const [level, threshold] = [make('i'), make('u')];
    const root = make('div', { class: 'meter', 'aria-hidden': 'true' }, level, threshold);
    const set = (share, limit, tone) => {
      level.style.width = `${Math.min(100, share * 100)}%`;
      show(threshold, limit !== null);
      if (limit !== null) threshold.style.left = `calc(${Math.min(100, limit * 100)}% - 1px)`;
      root.className = tone ? `meter ${tone}` : 'meter';
    };
    return { root, set };
  }

  function badge() {
    const text = make('span');
    const root = make('span', { class: 'badge' });
    const set = (state) => {
      if (root.dataset.state === state) return;
      root.dataset.state = state;
      text.textContent = STATES[state] || state;
      root.replaceChildren(icon(state), text);
    };
    return { root, set };
  }

  // ---- stages ----

  const series = new Map();
  let samplesTo = 0;
  const samplesOf = (policy) => series.get(policy) || [];

  // Calls per second lately; null where none are counted.
  function paceOf(samples) {
    const counted = samples.slice(-PACED_OVER).filter((sample) => sample.calls !== undefined);
    if (counted.length === 0) return null;
    return counted.reduce((sum, sample) => sum + sample.calls, 0) / counted.length;
  }

  // What a sample of a circuit breaker or a bulkhead is the share of, and where its limit is.
  function paintMinute(svg, stage, samples) {
    const now = stage.snapshot;
    const highest = Math.max(0, ...samples.map((sample) => sample.value || 0));
    if (stage.kind === 'circuit_breaker') {
      const share = now.calls > 0 ? now.failed / now.calls : 0;
      paintSpark(svg, samples, 1, now.thresholds.failure_rate);
      mark(svg, 'aria-label', `The last minute: failures now ${percent(share)}, at most ${percent(highest)}; ${stateMinute(samples)}`);
    } else {
      paintSpark(svg, samples, Math.max(now.limit, highest), now.limit);
      mark(svg, 'aria-label', `The last minute: in flight now ${now.in_flight}, at most ${highest}, of ${now.limit}`);
    }
  }

  function nameOf(stage) {
    const kind = KINDS[stage.kind] || stage.kind;
    return stage.name === stage.kind ? kind : `${stage.name}, ${kind}`;
  }

  // What all kinds of stages have: name, place for a state, what a command brought about, a button.
  function frameOf(stage, wide) {
    const title = make('h3', {}, nameOf(stage));
    title.title = stage.policy;
    const rate = make('span', { class: 'paced quiet', hidden: true });
    const head = make('div', { class: 'stage-head' }, make('div', { class: 'stage-name' }, title, rate));
    const over = make('p', { class: 'override', hidden: true });
    const root = make('div', { class: wide ? 'stage wide' : 'stage' }, head);
    const commandable = stage.kind === 'circuit_breaker' || stage.kind === 'bulkhead';
    let button = null;
    if (commandable) {
      const word = stage.kind === 'bulkhead' ? 'Resize' : 'Command';
      button = make('button', { type: 'button', class: 'small', hidden: true, 'aria-label': `${word}… ${stage.policy}` }, `${word}…`);
      head.append(button);
    }
    let newest = stage;
    if (button) button.addEventListener('click', () => openDialog(newest));
    const update = (next) => {
      newest = next;
      if (button) show(button, commandsOn);
      const calls = paceOf(samplesOf(next.policy));
      show(rate, calls !== null);
      if (calls !== null) say(rate, `${pace(calls)}/s`);
      show(over, next.override !== null);
      if (next.override) say(over, overrideText(next.override));
    };
    return { root, head, over, button, update };
  }

  function overrideText(over) {
    const what = over.command === 'resize' ? `Resized to ${over.max_concurrent}` : DONE[over.command] || over.command;
    const left = over.left_seconds === null ? 'until another command' : `ends in ${leaving(over.left_seconds)}`;
    return `${what} by ${over.by.label}: ${over.by.reason} (${left})`;
  }

  const DONE = { force_open: 'Forced open', disable: 'Disabled', metrics_only: 'Set to metrics only' };

  function breakerStage(stage) {
    const frame = frameOf(stage, true);
    const state = badge();
    const since = make('span', { class: 'quiet' });
    const left = make('span');
    const windowPicture = picture();
    const seen = part(windowPicture);
    const failures = meter();
    const failing = part(failures.root);
    const slowness = meter();
    const slow = part(slowness.root);
    const spark = sparkline();
    const minute = part(spark);
    const counts = make('p', { class: 'quiet' });
    frame.root.append(
      make('p', { class: 'fact' }, state.root, since, left),
      frame.over,
      make('div', { class: 'parts' }, seen.root, minute.root, failing.root, slow.root),
      counts,
    );

    const update = (next, caller) => {
      frame.update(next);
      const now = next.snapshot;
      const limits = now.thresholds;
      state.set(now.state);
      say(since, `for ${ticking(now.since_seconds)}`);
      show(left, now.until_seconds !== null);
      if (now.until_seconds !== null) say(left, untilText(now));

      const text = windowText(now);
      say(seen.left, text);
      say(seen.right, outcomes(now));
      paintWindow(windowPicture, now.window, now.window.cells);
      mark(windowPicture, 'aria-label', `Window, oldest first: ${text}, ${outcomes(now)}`);

      const judged = now.calls >= limits.minimum_calls && now.calls > 0;
      const share = now.calls > 0 ? now.failed / now.calls : 0;
      show(failing.root, limits.failure_rate !== null);
      if (limits.failure_rate !== null) {
        say(failing.left, now.calls > 0 ? `failures ${percent(share)}` : 'no calls');
        say(failing.right, judged || now.state === 'open' ? `opens at ${percent(limits.failure_rate)}` : `opens at ${percent(limits.failure_rate)} of ${count(limits.minimum_calls)} calls or more`);
        failures.set(share, limits.failure_rate, tone(share, limits.failure_rate, judged));
      }
      const inRow = limits.consecutive_failures;
      show(slow.root, limits.slow_call_rate !== null || inRow !== null);
      show(slowness.root, limits.slow_call_rate !== null);
      const slowShare = now.calls > 0 ? now.slow / now.calls : 0;
      const row = inRow === null ? '' : `${many(now.failures_in_a_row || 0, 'failure', 'failures')} in a row, opens at ${inRow}`;
      if (limits.slow_call_rate !== null) {
        say(slow.left, `slow ${percent(slowShare)}`);
        slow.root.title = `slow is what takes longer than ${lasting(limits.slow_call_longer_than_seconds)}`;
        say(slow.right, `opens at ${percent(limits.slow_call_rate)}${row ? `; ${row}` : ''}`);
        slowness.set(slowShare, limits.slow_call_rate, tone(slowShare, limits.slow_call_rate, judged));
      } else {
        say(slow.left, row);
        say(slow.right, '');
      }

      const samples = samplesOf(next.policy);
      paintMinute(spark, next, samples);
      const rejecting = samples.length > 0 ? samples[samples.length - 1].rejected : 0;
      say(minute.left, 'last minute: failures');
      say(minute.right, rejecting > 0 ? `refuses ${count(rejecting)}/s` : '');

      const parts = [];
      if (now.openings > 1) parts.push(`opened ${now.openings} times without a close`);
      if (now.not_permitted > 0) parts.push(`${many(now.not_permitted, 'call', 'calls')} refused since it opened`);
      if (now.rejected > now.not_permitted) {
        parts.push(now.not_permitted > 0 ? `${count(now.rejected)} in all` : `${many(now.rejected, 'call', 'calls')} refused so far`);
      }
      // Where the caller is told why, it is not told twice.
      if (now.cause && now.state === 'open' && caller.policy !== next.policy) parts.unshift(now.cause.text);
      show(counts, parts.length > 0);
      say(counts, parts.join(' · '));
    };
    return { root: frame.root, update };
  }

  function stateMinute(samples) {
    const seconds = new Map();
    for (const sample of samples) seconds.set(sample.state, (seconds.get(sample.state) || 0) + 1);
    return [...seconds].map(([state, number]) => `${STATES[state] || 'unknown'} ${number} s`).join(', ');
  }

  function untilText(now) {
    if (now.until_seconds === 0) return now.state === 'open' ? 'the next call is a probe' : 'its stay is over';
    const what = now.state === 'open' ? 'until it probes' : 'of its longest stay left';
    return `${leaving(now.until_seconds)} ${what}`;
  }

  function windowText(now) {
    const shape = now.window;
    if (shape.kind === 'none') return 'records nothing';
    if (now.state === 'half_open') return `${many(now.thresholds.probes, 'probe', 'probes')}, ${now.probes_under_way} under way`;
    // Open shows the window of the state before it.
    const from = now.state === 'open' ? 'before: ' : '';
    if (shape.kind === 'time') return `${from}${many(now.calls, 'call', 'calls')} in ${lasting(shape.duration_seconds)}`;
    if (now.calls < shape.size) return `${from}${count(now.calls)} of the last ${many(shape.size, 'call', 'calls')}`;
    return `${from}last ${many(shape.size, 'call', 'calls')}`;
  }

  function outcomes(now) {
    if (now.window.kind === 'none') return '';
    if (now.calls === 0) return 'no call yet';
    const parts = [`${count(now.failed)} failed`];
    if (now.slow > 0) parts.push(`${count(now.slow)} slow`);
    return parts.join(', ');
  }

  function tone(share, limit, judged) {
    if (!judged) return '';
    if (share >= limit) return 'over';
    return share >= limit * 0.75 ? 'near' : '';
  }

  function bulkheadStage(stage) {
    const frame = frameOf(stage);
    const slots = meter();
    const use = part(slots.root);
    const spark = sparkline();
    const minute = part(spark);
    const fact = make('p', { class: 'quiet' });
    frame.root.append(frame.over, use.root, minute.root, fact);
    const update = (next) => {
      frame.update(next);
      const now = next.snapshot;
      const full = now.in_flight >= now.limit;
      use.left.replaceChildren(make('b', {}, `${count(now.in_flight)} of ${count(now.limit)}`), ' in flight');
      say(use.right, full ? 'full' : '');
      slots.set(now.in_flight / now.limit, null, full ? 'over' : now.in_flight >= now.limit * 0.75 ? 'near' : '');
      const samples = samplesOf(next.policy);
      paintMinute(spark, next, samples);
      const rejecting = samples.length > 0 ? samples[samples.length - 1].rejected : 0;
      say(minute.left, 'last minute');
      say(minute.right, rejecting > 0 ? `refuses ${count(rejecting)}/s` : '');
      const waits = now.max_wait_seconds > 0;
      const parts = [waits ? `${count(now.queued)} of ${count(now.max_queue)} wait, for ${lasting(now.max_wait_seconds)} at most` : 'none waits'];
      if (now.rejected > 0) parts.push(`${count(now.rejected)} refused so far`);
      say(fact, parts.join(' · '));
    };
    return { root: frame.root, update };
  }

  function retryStage(stage) {
    const frame = frameOf(stage);
    const left = meter();
    const budget = part(left.root);
    const spark = sparkline();
    const minute = part(spark);
    const fact = make('p', { class: 'quiet' });
    frame.root.append(budget.root, minute.root, fact);
    const update = (next) => {
      frame.update(next);
      const now = next.snapshot;
      show(budget.root, now.budget !== null);
      show(minute.root, now.budget !== null);
      if (now.budget) {
        const all = now.budget.left + now.budget.retries;
        budget.left.replaceChildren(make('b', {}, count(now.budget.left)), ' retries left');
        say(budget.right, now.budget.left === 0 ? 'spent' : '');
        left.set(all > 0 ? now.budget.left / all : 0, null, now.budget.left === 0 ? 'over' : now.budget.left < all * 0.25 ? 'near' : '');
        const samples = samplesOf(next.policy);
        const most = Math.max(1, all, ...samples.map((sample) => sample.value || 0));
        paintSpark(spark, samples, most, null);
        say(minute.left, 'last minute: budget left');
        mark(spark, 'aria-label', `The last minute: retries left now ${now.budget.left}, at most ${most}`);
      }
      const used = now.budget ? ` · ${many(now.budget.retries, 'retry', 'retries')} for ${many(now.budget.calls, 'call', 'calls')} lately` : ' · no budget';
      say(fact, `up to ${many(now.max_attempts, 'attempt', 'attempts')}${used}`);
    };
    return { root: frame.root, update };
  }

  function timeoutStage(stage) {
    const frame = frameOf(stage);
    const limit = make('span', { class: 'big' });
    const spark = sparkline();
    const minute = part(spark);
    const fact = make('p', { class: 'quiet' });
    frame.root.append(make('p', { class: 'fact' }, limit, make('span', { class: 'quiet' }, 'at most')), minute.root, fact);
    const update = (next) => {
      frame.update(next);
      const now = next.snapshot;
      say(limit, lasting(now.limit_seconds));
      const samples = samplesOf(next.policy);
      paintSpark(spark, samples, 1, null);
      const cut = samples.reduce((sum, sample) => sum + sample.rejected, 0);
      say(minute.left, 'last minute: cut off');
      say(minute.right, count(cut));
      mark(spark, 'aria-label', `The last minute: ${many(cut, 'call', 'calls')} cut off`);
      say(fact, `${many(now.timed_out, 'call', 'calls')} cut off so far`);
    };
    return { root: frame.root, update };
  }

  function otherStage(stage) {
    const frame = frameOf(stage);
    return { root: frame.root, update: frame.update };
  }

  const STAGES = { circuit_breaker: breakerStage, bulkhead: bulkheadStage, retry: retryStage, timeout: timeoutStage };

  // ---- stacks ----

  const MARKS = { all: '✓', some: '◐', none: '✕' };
  const stacks = new Map();
  let stackNumber = 0;

  function stackView(first) {
    stackNumber += 1;
    const id = `stack-${stackNumber}`;
    const title = make('h2', { id: `${id}-name` }, first.name);
    const glyph = make('span', { class: 'mark', 'aria-hidden': 'true' });
    const sees = make('span');
    const caller = make('p', { class: 'caller' }, glyph, make('span', {}, make('span', { class: 'lead' }, 'A caller sees: '), sees));
    const orphaned = make('span', { class: 'tag', hidden: true }, 'gone from the settings');
    const traffic = trafficView();
    const place = make('div');
    const keys = keysView();
    const settings = settingsView(first.name);
    const root = make(
      'article',
      { class: 'stack', id, 'aria-labelledby': `${id}-name` },
      make('div', { class: 'stack-head' }, title, orphaned, caller, traffic.root),
      place,
      keys.root,
      settings.root,
    );
    let shape = null;
    let stages = [];
    const update = (next) => {
      root.dataset.admitted = next.caller.admitted;
      say(glyph, MARKS[next.caller.admitted] || '');
      say(sees, next.caller.text);
      show(orphaned, next.orphaned);
      traffic.update(next);
      show(keys.root, next.keys !== null);
      show(place, next.keys === null);
      if (next.keys) {
        keys.update(next);
        return;
      }
      const form = JSON.stringify(next.stages.map((stage) => [stage.policy, stage.kind]));
      if (form !== shape) {
        shape = form;
        stages = next.stages.map((stage) => (STAGES[stage.kind] || otherStage)(stage));
        place.replaceChildren(make('div', { class: 'stages' }, ...stages.map((stage) => stage.root)));
      }
      next.stages.forEach((stage, at) => stages[at].update(stage, next.caller));
    };
    return { root, id, update };
  }

  // The calls of a stack are those that its outermost policy sees, of all keys where there are keys.
  function trafficView() {
    const svg = draw('svg', { class: 'traffic', role: 'img', preserveAspectRatio: 'none', viewBox: `0 0 ${SAMPLES} 20` });
    const text = make('span');
    const root = make('p', { class: 'pace', hidden: true }, svg, text);
    const update = (stack) => {
      const samples = stack.stages.length > 0 ? samplesOf(stack.stages[0].policy) : [];
      const calls = paceOf(samples);
      show(root, calls !== null);
      if (calls === null) return;
      say(text, `${pace(calls)} calls/s`);
      paintTraffic(svg, samples);
      const most = Math.max(0, ...samples.map((sample) => sample.calls || 0));
      mark(svg, 'aria-label', `Calls of the last minute: at most ${count(most)} in a second`);
    };
    return { root, update };
  }

  function keysView() {
    const body = make('tbody');
    const note = make('p', { class: 'label' });
    const heads = ['Key', 'Circuit breaker', 'For', 'Failures', 'Last minute', 'In flight', 'A caller sees'];
    const root = make(
      'div',
      { class: 'keys', hidden: true, tabindex: '0', role: 'region', 'aria-label': 'Keys' },
      make('table', {}, make('thead', {}, make('tr', {}, ...heads.map((head) => make('th', { scope: 'col' }, head)), make('th', {}, make('span', { class: 'unseen' }, 'Commands')))), body),
      note,
    );
    const rows = new Map();
    let order = '';
    const update = (stack) => {
      const keys = stack.keys;
      keys.shown.forEach((key, at) => {
        let row = rows.get(key.key);
        if (!row) {
          row = keyRow(key.key);
          rows.set(key.key, row);
        }
        row.update(key, stack.key_callers[at]);
      });
      const names = keys.shown.map((key) => key.key);
      for (const name of rows.keys()) if (!names.includes(name)) rows.delete(name);
      const next = JSON.stringify(names);
      if (next !== order) {
        order = next;
        body.replaceChildren(...names.map((name) => rows.get(name).root));
      }
      const parts = [
        `Each has ${stack.stages.map(nameOf).join(' → ')}`,
        `${many(keys.keys, 'key', 'keys')} by ${keys.per}, room for ${count(keys.max_keys)}`,
      ];
      if (keys.hidden > 0) parts.push(`${count(keys.hidden)} not shown`);
      if (keys.overflowed > 0) parts.push(`${many(keys.overflowed, 'call', 'calls')} found no place and shared *`);
      if (keys.forgotten > 0) parts.push(`${count(keys.forgotten)} forgotten`);
      note.replaceChildren(make('span', {}, parts.join(' · ')));
    };
    return { root, update };
  }

  function keyRow(name) {
    const state = badge();
    const cells = ['key', 'state', 'since', 'rate', 'minute', 'use', 'sees', 'do'].map((kind) => make('td', { class: kind }));
    const [key, stateCell, since, rate, minute, use, sees, act] = cells;
    const spark = sparkline();
    minute.append(spark);
    key.textContent = name === '*' ? '* (keys without a place)' : name;
    key.title = name;
    stateCell.append(state.root);
    since.append(make('span', {}), make('span', { class: 'quiet', hidden: true }));
    // On a phone the heads stand in each cell.
    [since, rate, minute, use, sees].forEach((cell, at) => mark(cell, 'data-head', ['for', 'failures', 'last minute', 'in flight', 'a caller sees'][at]));
    let breaker = null;
    const button = make('button', { type: 'button', class: 'small', hidden: true }, 'Command…');
    button.setAttribute('aria-label', `Command… the circuit breaker of ${name}`);
    button.addEventListener('click', () => breaker && openDialog(breaker));
    act.append(button);
    const update = (next, caller) => {
      breaker = next.stages.find((stage) => stage.kind === 'circuit_breaker') || null;
      const bulkhead = next.stages.find((stage) => stage.kind === 'bulkhead');
      // The samples of a key are those of one policy.
      const shown = breaker || bulkhead;
      mark(spark, 'hidden', shown ? null : true);
      if (shown) paintMinute(spark, shown, samplesOf(shown.policy));
      show(state.root, breaker !== null);
      show(button, breaker !== null && commandsOn);
      if (breaker) {
        const now = breaker.snapshot;
        state.set(now.state);
        say(since.firstChild, ticking(now.since_seconds));
        show(since.lastChild, now.state === 'open' && now.until_seconds > 0);
        say(since.lastChild, `${leaving(now.until_seconds)} left`);
        say(rate, now.calls > 0 ? `${percent(now.failed / now.calls)} of ${count(now.calls)}` : 'no calls');
      }
      say(use, bulkhead ? `${count(bulkhead.snapshot.in_flight)} of ${count(bulkhead.snapshot.limit)}` : '');
      say(sees, caller ? `${MARKS[caller.admitted] || ''} ${caller.text}` : '');
    };
    return { root: make('tr', {}, ...cells), update };
  }

  function settingsView(name) {
    const text = make('pre', { tabindex: '0' });
    const root = make('details', {}, make('summary', {}, 'Settings in effect'), text);
    root.addEventListener('toggle', async () => {
      if (!root.open) return;
      say(text, '…');
      try {
        const answer = await fetch(api('config'));
        const config = await answer.json();
        const path = `stacks.${name}.`;
        const origins = Object.entries(config.origins || {}).filter(([key]) => key.startsWith(path));
        const from = origins.map(([key, origin]) => `${key.slice(path.length)}: ${origin}`);
        const shown = JSON.stringify((config.stacks || {})[name] || null, null, 2);
        say(text, from.length > 0 ? `${shown}\n\nSet there, the rest is built in:\n${from.join('\n')}` : shown);
      } catch {
        say(text, 'They cannot be had now.');
      }
    });
    return { root };
  }

  // ---- what needs a look ----

  const attention = new Map();

  function problems(state) {
    const found = [];
    const add = (stack, shape, tone, text) => found.push({ id: stacks.get(stack.name).id, shape, tone, text });
    for (const stack of state.stacks) {
      if (stack.keys) {
        const refused = stack.key_callers.filter((caller) => caller.admitted !== 'all').length;
        if (refused > 0) {
          const all = refused === stack.keys.shown.length + stack.keys.hidden;
          add(stack, 'open', all ? 'bad' : 'warn', `${stack.name}: ${count(refused)} of ${many(stack.keys.shown.length + stack.keys.hidden, 'key', 'keys')} refuse calls`);
        }
        continue;
      }
      const several = stack.stages.filter((stage) => stage.kind === 'circuit_breaker').length > 1;
      for (const stage of stack.stages) {
        const now = stage.snapshot;
        const name = several ? stage.policy : stack.name;
        if (stage.kind === 'circuit_breaker' && now.state !== 'closed') {
          const tones = { open: 'bad', forced_open: 'bad', half_open: 'warn', metrics_only: 'info' };
          add(stack, now.state, tones[now.state] || 'calm', `${name} ${STATES[now.state]} for ${ticking(now.since_seconds)}`);
        } else if (stage.kind === 'bulkhead' && now.in_flight >= now.limit) {
          add(stack, 'full', 'warn', `${name}: bulkhead full`);
        } else if (stage.kind === 'retry' && now.budget && now.budget.left === 0) {
          add(stack, 'note', 'warn', `${name}: retry budget spent`);
        }
      }
    }
    return found;
  }

  function showProblems(state) {
    const found = problems(state);
    const place = $('attention');
    const form = JSON.stringify(found.map((problem) => [problem.id, problem.shape, problem.tone]));
    if (attention.get('form') !== form) {
      attention.set('form', form);
      if (found.length === 0) {
        const text = state.stacks.length === 0 ? 'There is no stack.' : 'All calls go through.';
        place.replaceChildren(make('span', { class: 'well' }, icon('closed'), make('span', {}, text)));
      } else {
        place.replaceChildren(...found.map((problem) => make('a', { href: `#${problem.id}`, class: `tone-${problem.tone}` }, icon(problem.shape), make('span'))));
      }
    }
    found.forEach((problem, at) => say(place.children[at].lastChild, problem.text));
    const urgent = found.filter((problem) => problem.tone === 'bad').length;
    const title = urgent > 0 ? `(${urgent}) ${state.title}` : state.title;
    if (document.title !== title) document.title = title;
  }

  // ---- events ----

  let instance = null;
  let newestEvent = 0;
  const list = $('events');

  function toneOf(event) {
    if (event.what === 'transition') {
      const tones = { open: ['bad', '✕'], forced_open: ['bad', '✕'], half_open: ['warn', '◐'], closed: ['good', '✓'] };
      return tones[event.to] || ['info', '•'];
    }
    const tones = {
      rejections: ['bad', '⊘'], reload_failed: ['bad', '!'], keys_full: ['warn', '!'], commanded: ['info', '▸'],
      override_ended: ['info', '◂'], reloaded: ['good', '↻'], orphaned: ['warn', '!'],
    };
    return tones[event.what] || ['calm', '•'];
  }

  function eventText(event) {
    const words = (state) => STATES[state] || state;
    if (event.what === 'transition') {
      const why = event.cause ? `: ${event.cause.text}` : '';
      return `${words(event.from)} → ${words(event.to)}${why}`;
    }
    if (event.what === 'rejections') {
      const why = event.reason ? `: ${event.reason.text}` : '';
      const done = event.policy === 'timeout' ? 'cut off' : 'refused';
      return `${many(event.count, 'call', 'calls')} ${done} in ${lasting(event.over_seconds)}${why}`;
    }
    if (event.what === 'commanded') {
      const ttl = event.ttl_seconds === null ? '' : ` for ${lasting(event.ttl_seconds)}`;
      return `${commandText(event)}${ttl}, by ${event.by.label}: ${event.by.reason}`;
    }
    if (event.what === 'override_ended') {
      const ends = { expired: 'its time is over, automatic again', replaced: 'another command came', left: 'left in another way' };
      return `end of ${commandText(event)} by ${event.by.label}: ${ends[event.end] || event.end}`;
    }
    return event.text;
  }

  const commandText = (event) =>
    event.command === 'resize' ? `resize to ${event.max_concurrent}` : event.command.replaceAll('_', ' ');

  // A line may break before the key: `images/circuit_breaker[KEY]`.
  function keyApart(name) {
    const at = name.indexOf('[');
    return at < 0 ? [name] : [name.slice(0, at), make('wbr'), name.slice(at)];
  }

  function addEvent(event) {
    if (event.seq <= newestEvent) return;
    newestEvent = event.seq;
    const [toneName, glyph] = toneOf(event);
    const text = eventText(event);
    const time = make('time', { datetime: event.at, title: event.at }, clock(event.at));
    const item = make(
      'li',
      { class: `tone-${toneName}` },
      make('div', { class: 'event-head' }, time, make('span', { class: 'mark', 'aria-hidden': 'true' }, glyph), make('span', { class: 'name' }, ...keyApart(event.name))),
      make('div', { class: 'event-text' }, text),
    );
    addItem(item);
    if (event.what === 'transition' && fresh) announce(`${event.name}: ${text}`);
  }

  function addItem(item) {
    filterItem(item);
    list.prepend(item);
    while (list.children.length > MOST_EVENTS) list.lastChild.remove();
    show($('no-events'), false);
  }

  function filterItem(item) {
    const wanted = $('filter').value.trim().toLowerCase();
    item.hidden = wanted !== '' && !item.textContent.toLowerCase().includes(wanted);
  }

  $('filter').addEventListener('input', () => [...list.children].forEach(filterItem));

  function noteLine(text) {
    addItem(make('li', { class: 'quiet' }, text));
  }

  // ---- the stream ----

  let source = null;
  let heard = 0;
  let lostSince = null;
  let fresh = false;
  let commandsOn = false;
  let again = null;

  function connect() {
    if (source) source.close();
    clearTimeout(again);
    again = null;
    heard = Date.now();
    const stream = new EventSource(api('live'));
    source = stream;
    const on = (kind, take) =>
      stream.addEventListener(kind, (message) => {
        if (stream !== source) return;
        heard = Date.now();
        take(JSON.parse(message.data));
      });
    on('series', takeSeries);
    on('state', takeState);
    on('event', addEvent);
    on('lost', (number) => noteLine(`${many(number, 'event was', 'events were')} not shown: this page was too slow.`));
    stream.onerror = () => {
      if (stream !== source) return;
      lose();
      // A refusal ends it for good; a broken connection is taken up again by the browser.
      if (stream.readyState === EventSource.CLOSED) later();
    };
  }

  function later() {
    if (again === null) again = setTimeout(connect, 1500);
  }

  function lose() {
    if (lostSince === null) lostSince = heard;
    showLink();
  }

  function showLink() {
    const lost = lostSince !== null;
    const link = $('link');
    if (!lost) {
      if (link.dataset.link !== 'live') {
        link.dataset.link = 'live';
        say($('link-text'), 'live');
        show($('lost'), false);
        $('columns').classList.remove('stale');
      }
      return;
    }
    link.dataset.link = 'lost';
    say($('link-text'), 'not connected');
    $('columns').classList.toggle('stale', fresh || stacks.size > 0);
    const what = stacks.size > 0 ? `What you see is of ${clock(lostSince)}.` : 'There is nothing to show yet.';
    say($('lost'), `The connection is lost. ${what} Trying to get it back…`);
    show($('lost'), true);
  }

  setInterval(() => {
    const silent = Date.now() - heard;
    if (silent > STALE_AFTER && (fresh || lostSince !== null)) lose();
    // A connection that is up and says nothing for long is taken up anew.
    if (silent > 3 * STALE_AFTER && again === null) connect();
  }, 500);

  function takeSeries(next) {
    series.clear();
    for (const [policy, samples] of Object.entries(next.policies)) series.set(policy, samples);
    samplesTo = next.ticks;
  }

  function takeState(state) {
    if (instance !== null && instance !== state.instance) {
      newestEvent = 0;
      noteLine('Another process answers since here.');
    }
    instance = state.instance;
    if (state.ticks > samplesTo) {
      samplesTo = state.ticks;
      for (const policy of series.keys()) if (!(policy in state.samples)) series.delete(policy);
      for (const [policy, sample] of Object.entries(state.samples)) {
        const samples = series.get(policy) || [];
        samples.push(sample);
        if (samples.length > SAMPLES) samples.shift();
        series.set(policy, samples);
      }
    }
    commandsOn = state.commands;
    say($('title'), state.title);
    show($('reload'), commandsOn);
    const failed = state.failed_reloads > 0 ? `, ${many(state.failed_reloads, 'reload', 'reloads')} refused` : '';
    say($('summary'), `${many(state.stacks.length, 'stack', 'stacks')} · settings number ${state.generation}${failed}`);
    showStacks(state.stacks);
    showProblems(state);
    if (lostSince !== null) announce('The connection is back.');
    lostSince = null;
    fresh = true;
    showLink();
  }

  function showStacks(all) {
    const place = $('stacks');
    const names = new Set(all.map((stack) => stack.name));
    for (const [name, view] of stacks) {
      if (names.has(name)) continue;
      view.root.remove();
      stacks.delete(name);
    }
    all.forEach((stack, at) => {
      let view = stacks.get(stack.name);
      if (!view) {
        view = stackView(stack);
        stacks.set(stack.name, view);
      }
      if (place.children[at] !== view.root) place.insertBefore(view.root, place.children[at] || null);
      view.update(stack);
    });
  }

  // ---- commands ----

  const BREAKER_COMMANDS = [
    ['force_open', 'Force open', 'refuse all calls', true, 'forced_open'],
    ['close', 'Close', 'let all calls through, and begin with an empty window', false, null],
    ['half_open', 'Probe now', 'let a few calls find out whether the service is well', false, 'half_open'],
    ['disable', 'Disable', 'let all calls through and record nothing', true, 'disabled'],
    ['metrics_only', 'Metrics only', 'let all calls through, record them, never open', true, 'metrics_only'],
  ];

  const dialog = $('dialog');
  let token = null;
  let target = null;

  function openDialog(stage) {
    target = stage;
    const isBulkhead = stage.kind === 'bulkhead';
    const isReload = stage.kind === 'registry';
    say($('dialog-title'), isReload ? 'Reload the settings' : stage.policy);
    const choices = $('choices');
    choices.replaceChildren($('choices').firstElementChild);
    show(choices, !isBulkhead && !isReload);
    if (!isBulkhead && !isReload) {
      BREAKER_COMMANDS.forEach(([command, name, what]) => {
        const input = make('input', { type: 'radio', name: 'command', value: command });
        input.addEventListener('change', showTtl);
        choices.append(make('label', { class: 'choice' }, input, make('span', {}, make('b', {}, name), ` – ${what}`)));
      });
    }
    show($('limit-row'), isBulkhead);
    if (isBulkhead) $('limit').value = stage.snapshot.limit;
    $('reason').value = '';
    $('ttl').value = '15m';
    show($('token-row'), token === null);
    $('token').value = '';
    problem(null);
    showTtl();
    dialog.showModal();
  }

  function chosen() {
    if (target.kind === 'bulkhead') return 'resize';
    if (target.kind === 'registry') return 'reload';
    const checked = document.querySelector('input[name="command"]:checked');
    return checked ? checked.value : null;
  }

  function showTtl() {
    const command = chosen();
    const lasts = command === 'resize' || BREAKER_COMMANDS.some(([name, , , over]) => name === command && over);
    show($('ttl-row'), lasts);
    say($('ttl-hint'), command === 'resize' ? 'Then the limit of the settings holds again.' : 'Then the circuit breaker closes and works by itself again.');
    const send = $('send');
    const names = { resize: 'Resize', reload: 'Reload' };
    const entry = BREAKER_COMMANDS.find(([name]) => name === command);
    say(send, entry ? entry[1] : names[command] || 'Send');
    send.className = command === 'force_open' ? 'danger' : 'main';
    send.disabled = command === null;
  }

  function problem(text, field) {
    for (const id of ['reason', 'limit', 'ttl', 'token']) mark($(id), 'aria-invalid', field === id ? 'true' : null);
    say($('problem'), text || '');
    show($('problem'), Boolean(text));
    if (field) $(field).focus();
  }

  $('form').addEventListener('submit', async (event) => {
    event.preventDefault();
    const command = chosen();
    if (command === null) return;
    const reason = $('reason').value.trim();
    if (reason === '') {
      problem('Say why: others will read it.', 'reason');
      return;
    }
    const given = token === null ? $('token').value.trim() : token;
    if (given === '') {
      problem('A command needs a token.', 'token');
      return;
    }
    const body = { name: target.policy, command, reason };
    if (!$('ttl-row').hidden && $('ttl').value !== '') body.ttl = $('ttl').value;
    if (command === 'resize') body.max_concurrent = Number($('limit').value);
    $('send').disabled = true;
    try {
      await send(body, given);
    } finally {
      $('send').disabled = false;
    }
  });

  async function send(body, given) {
    let answer;
    let told = {};
    try {
      answer = await fetch(api('commands'), {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${given}` },
        body: JSON.stringify(body),
      });
      told = await answer.json().catch(() => ({}));
    } catch {
      problem('The command did not get through, or its answer did not come back. See above whether it took effect.');
      return;
    }
    if (answer.ok) {
      keepToken(given, told.label);
      dialog.close();
      announce(`Done: ${commandText({ command: body.command, max_concurrent: body.max_concurrent })}, ${told.name}.`);
      return;
    }
    if (answer.status === 401) {
      keepToken(null);
      show($('token-row'), true);
      problem('This token is not known.', 'token');
      return;
    }
    const fields = { reason: 'reason', max_concurrent: 'limit', ttl: 'ttl' };
    const issues = (told.issues || []).map((issue) => `${issue.path}: ${issue.message}`);
    problem([told.error || `It was refused (${answer.status}).`, ...issues].join(' '), fields[told.field]);
  }

  function keepToken(value, label) {
    token = value;
    show($('who'), value !== null);
    if (value !== null) say($('who-label'), `Commands as ${label}.`);
  }

  $('cancel').addEventListener('click', () => dialog.close());
  $('forget').addEventListener('click', () => keepToken(null));
  $('reload').addEventListener('click', () => openDialog({ kind: 'registry', policy: 'registry' }));
  dialog.addEventListener('close', () => {
    // Nothing of it stays in the document.
    $('token').value = '';
  });

  connect();
})();
