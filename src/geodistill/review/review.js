'use strict';
const $ = (name) => document.getElementById(name);
const VERDICTS = { a: 'accept', d: 'drop', b: 'box', i: 'ignore' };
const PARTS = { doubt: 'Doubt', score: 'by its score', fit: 'mask against box', jitter: 'boxes moved', model: 'model' };
const client = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join('');
let state = null, current = null, prompting = null, zoom = 1, busy = false, timer = 0;

async function ask(question, about = {}) {
  let answer;
  try {
    answer = await fetch(question, { method: 'POST', body: JSON.stringify({ client, reviewer: reviewer(), ...about }) });
  } catch (error) {
    throw new Error("'geodistill review' does not answer: start it again; every decision that it answered is kept");
  }
  const data = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  if (!answer.ok) throw new Error(data.error);
  return data;
}

function reviewer() {
  return $('reviewer').value.trim();
}

function say(text, wrong = false) {
  $('message').textContent = text;
  $('message').classList.toggle('wrong', wrong);
}

// One thing at a time: a key held down must not decide about what is not there yet.
async function doing(work) {
  if (busy) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    say(error.message, true);
  } finally {
    busy = false;
  }
}

function duration(seconds) {
  if (seconds === null) return '';
  const minutes = Math.round(seconds / 60);
  if (minutes < 1) return 'less than a minute left';
  return minutes < 90 ? `about ${minutes} min left` : `about ${Math.round(minutes / 60)} h left`;
}

async function refresh() {
  state = await ask('state');
  $('title').textContent = `Review of ${state.title}`;
  document.title = `Review of ${state.title}`;
  $('progress').max = Math.max(state.total, 1);
  $('progress').value = state.decided;
  $('count').textContent = `${state.decided.toLocaleString('en')} of ${state.total.toLocaleString('en')}`;
  $('good').textContent = state.good.charAt(0).toUpperCase() + state.good.slice(1);
  const others = state.reviewers > 1 ? `, ${state.reviewers} at work` : '';
  $('left').textContent = state.seconds === null ? others.slice(2) : duration(state.seconds) + others;
  list.resize(state.total, state.classes);
}

// Nobody waits for figures: the next key is taken as soon as its object is there.
function refreshSoon() {
  refresh().catch((error) => say(error.message, true));
}

function fact(name, ...parts) {
  const term = document.createElement('dt'), value = document.createElement('dd');
  term.textContent = name;
  value.append(...parts);
  $('facts').append(term, value);
}

function showFacts() {
  const named = state.classes[current.class];
  const swatch = Object.assign(document.createElement('span'), { className: 'swatch' });
  swatch.style.background = named.colour;
  $('facts').replaceChildren();
  fact('Class', swatch, named.name);
  fact('Image', current.image + (current.tile ? `, row ${current.tile[0]}, column ${current.tile[1]}` : ''));
  fact('Place', `${current.place + 1}${current.sample ? ', random sample' : ''}`);
  if (current.without) fact('Mask', `none (${current.without})`);
  else fact('Pixels', current.pixels.toLocaleString('en'));
  for (const [part, name] of Object.entries(PARTS)) {
    const value = current.doubts[part];
    if (value === null) continue;
    const meter = Object.assign(document.createElement('meter'), { min: 0, max: 1, value });
    meter.setAttribute('aria-hidden', 'true');
    fact(name, meter, value.toFixed(2));
  }
  if (current.changed.length) fact('Changed', current.changed.join(', '));
  if (current.verdict !== 'undecided') fact('Decided', `${current.verdict}, by ${current.by}`);
}

function draw() {
  const [left, top, width, height] = current.windows[zoom];
  $('picture').setAttribute('viewBox', `${left} ${top} ${width} ${height}`);
  const address = `crop?id=${current.id}&zoom=${zoom}`;
  if ($('image').getAttribute('href') !== address) $('image').setAttribute('href', address);
  for (const [name, value] of Object.entries({ x: left, y: top, width, height })) $('image').setAttribute(name, value);
  const decided = { box: current.filled, prompt: current.redrawn, drop: '', ignore: '' }[current.verdict];
  const mask = prompting && prompting.mask !== null ? prompting.mask : decided ?? current.mask;
  $('mask').setAttribute('d', mask);
  const colour = prompting ? '#ffd000' : state.classes[current.class].colour;
  $('mask').style.fill = $('mask').style.stroke = colour;
  $('box').setAttribute('d', current.box);
  const [l, t, r, b] = prompting ? prompting.box : [0, 0, 0, 0];
  $('prompt').setAttribute('d', prompting ? `M${l} ${t}H${r}V${b}H${l}Z` : '');
  const point = prompting && prompting.point;
  $('point').setAttribute('r', point ? Math.max(width, height) / 120 : 0);
  if (point) {
    $('point').setAttribute('cx', point[0]);
    $('point').setAttribute('cy', point[1]);
  }
  $('picture').classList.toggle('prompting', prompting !== null);
  $('prompting').hidden = prompting === null;
  $('picture').setAttribute('aria-label', `${state.classes[current.class].name} in ${current.image}, ${current.verdict}`);
}

function show(object) {
  if (object && (!current || current.id !== object.id)) zoom = 1;
  current = object;
  prompting = null;
  clearTimeout(timer);
  $('picture').toggleAttribute('hidden', !object);
  for (const button of document.querySelectorAll('[data-key]')) {
    button.disabled = !object && !['u', 'h', 'ArrowLeft', 'ArrowRight'].includes(button.dataset.key);
  }
  if (!object) {
    say('Nothing is left to decide. Write it into the labels with: geodistill review LABELS --export');
    $('facts').replaceChildren();
    return;
  }
  draw();
  showFacts();
  list.mark(object.place);
}

async function goOn() {
  show(await ask('next', { behind: current ? current.place : -1 }));
  refreshSoon();
}

async function openPlace(place) {
  if (place < 0 || place >= state.total) return;
  const object = await ask('open', { place });
  say('');
  show(object);
}

async function decide(verdict) {
  const about = { id: current.id, verdict, last: current.last };
  await ask('decide', about);
  const { place } = current;
  list.update(place, verdict);
  await goOn();
  if (current) say(`${place + 1}: ${verdict}`);
}

async function undo() {
  const object = await ask('undo');
  if (!object) {
    say('Nothing of yours to take back.');
    return;
  }
  list.update(object.place, object.verdict);
  show(object);
  say(`Taken back: ${object.place + 1}`);
  refreshSoon();
}

async function redraw() {
  if (!prompting) return;
  const { box, point } = prompting;
  const answer = await ask('prompt', { id: current.id, box, point });
  if (!prompting || prompting.box !== box || prompting.point !== point) return; // of another box than is shown now
  Object.assign(prompting, { mask: answer.mask, settled: true });
  say(`New mask: score ${answer.score.toFixed(2)}, ${answer.pixels.toLocaleString('en')} pixels. Enter takes it, Esc leaves it.`);
  draw();
}

// Until its own mask is there, a box that was moved can not be taken: the one that is shown is of the box before.
function soon() {
  prompting.settled = false;
  say(`Asking ${state.segmenter} ...`);
  askSoon();
  draw();
}

function askSoon() {
  clearTimeout(timer);
  timer = setTimeout(() => (busy ? askSoon() : doing(redraw)), 150);
}

function startPrompt() {
  prompting = { box: [...current.bounds], point: null, mask: null, settled: false };
  say(`Asking ${state.segmenter} ...`);
  return redraw();
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function nudge(event) {
  const [l, t, r, b] = prompting.box, [x, y] = MOVES[event.key];
  const dx = x * Math.max((r - l) * 0.04, 1), dy = y * Math.max((b - t) * 0.04, 1);
  if (event.altKey && prompting.point) prompting.point = [prompting.point[0] + dx, prompting.point[1] + dy];
  else if (event.shiftKey) prompting.box = [l, t, Math.max(r + dx, l + 2), Math.max(b + dy, t + 2)];
  else prompting.box = [l + dx, t + dy, r + dx, b + dy];
  soon();
}

function togglePoint() {
  const [l, t, r, b] = prompting.box;
  prompting.point = prompting.point ? null : [(l + r) / 2, (t + b) / 2];
  soon();
}

function leavePrompt() {
  clearTimeout(timer);
  prompting = null;
  say('');
  draw();
}

function look(key) {
  if (key === 'm') {
    const hidden = $('mask').toggleAttribute('hidden');
    document.querySelector('[data-key=m]').setAttribute('aria-pressed', !hidden);
  } else if (key === 'h') {
    $('help').hidden = !$('help').hidden;
    document.querySelector('[data-key=h]').setAttribute('aria-expanded', !$('help').hidden);
  } else {
    zoom = Math.min(Math.max(zoom + (key === '-' ? 1 : -1), 0), current.windows.length - 1);
    draw();
  }
}

function act(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === 'h') return look('h');
  if (key === 'u') return doing(undo);
  if (!current) return key in MOVES ? doing(() => openPlace(key === 'ArrowLeft' ? state.total - 1 : 0)) : undefined;
  if (prompting) {
    if (key in MOVES) return nudge(event);
    if (key === 'c') return togglePoint();
    if (key === 'Escape') return leavePrompt();
    if (key === 'Enter') return prompting.settled ? doing(() => decide('prompt')) : undefined;
  }
  if (key in VERDICTS) return doing(() => decide(VERDICTS[key]));
  if (key === 'p') return doing(startPrompt);
  if (key === 'ArrowLeft') return doing(() => openPlace(current.place - 1));
  if (key === 'ArrowRight') return doing(() => openPlace(current.place + 1));
  if (['m', '+', '=', '-'].includes(key)) return look(key === '=' ? '+' : key);
  return undefined;
}

const KEYS = ['a', 'd', 'b', 'i', 'p', 'u', 'm', 'h', '+', '=', '-', 'ArrowLeft', 'ArrowRight'];
const PROMPT_KEYS = ['c', 'Enter', 'Escape', 'ArrowUp', 'ArrowDown'];

document.addEventListener('keydown', (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const written = event.target.matches('input');
  if (written || event.ctrlKey || event.metaKey || (event.altKey && !prompting)) return;
  if (event.target.matches('button') && ['Enter', ' '].includes(key)) return;
  if (!KEYS.includes(key) && !(prompting && PROMPT_KEYS.includes(key))) return;
  event.preventDefault();
  act(event);
});
for (const button of document.querySelectorAll('[data-key]')) {
  // The focus goes back, so that keys go on from where they were.
  button.addEventListener('click', () => {
    button.blur();
    act({ key: button.dataset.key });
  });
}
$('picture').addEventListener('click', (event) => {
  if (!prompting) return;
  const place = new DOMPoint(event.clientX, event.clientY).matrixTransform($('picture').getScreenCTM().inverse());
  prompting.point = [place.x, place.y];
  soon();
});
$('reviewer').addEventListener('change', () => sessionStorage.setItem('reviewer', reviewer()));
$('image').addEventListener('error', () => say('The image cannot be shown.', true));
const list = new ObjectList($('list'), $('rows'), ask, (place) => doing(() => openPlace(place)));
setInterval(() => {
  if (!busy) refresh().then(() => list.forget()).catch((error) => say(error.message, true));
}, 5000);
doing(async () => {
  $('reviewer').value = sessionStorage.getItem('reviewer') || '-';
  await refresh();
  if (reviewer() === '-') $('reviewer').value = state.reviewer;
  await goOn();
});
