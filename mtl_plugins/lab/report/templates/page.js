'use strict';
// Sorting, curves and the gallery of a page, from the JSON in #data. No request but those of the page that refreshes.
let data = JSON.parse(document.getElementById('data').textContent);
const byId = id => document.getElementById(id);
const element = (name, attributes = {}, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in node && key !== 'style') node[key] = value; else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
};

// Tables
const numberOf = text => {
  const time = text.match(/^(\d+):(\d\d):(\d\d)$/);
  if (time) return 3600 * time[1] + 60 * time[2] + Number(time[3]);
  const value = parseFloat(text.replace(/,/g, ''));
  return Number.isNaN(value) ? null : value;
};
function sortTable(table, column, direction) {
  const header = table.tHead.rows[0].cells[column];
  const numeric = header.classList.contains('number');
  const key = row => { const text = row.cells[column].textContent; return numeric ? numberOf(text) : text || null; };
  const rows = [...table.tBodies[0].rows].map(row => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * (numeric ? a - b : a.localeCompare(b, undefined, {numeric: true}));
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
  for (const cell of table.tHead.rows[0].cells) cell.setAttribute('aria-sort', 'none');
  header.setAttribute('aria-sort', direction > 0 ? 'ascending' : 'descending');
}
document.addEventListener('click', event => {
  const button = event.target.closest('table.sortable thead button');
  if (!button) return;
  const header = button.parentElement;
  sortTable(header.closest('table'), header.cellIndex, header.getAttribute('aria-sort') === 'ascending' ? -1 : 1);
});

// Plots
const COLOURS = ['--text', '--grid', '--line', '--card'];
const dark = matchMedia('(prefers-color-scheme: dark)');
const CONFIG = {displaylogo: false, responsive: true, modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d']};
function merged(own, printing) {
  const style = getComputedStyle(document.documentElement);
  const [text, grid, line, card] = printing ? ['#000', '#ddd', '#bbb', '#fff'] : COLOURS.map(name => style.getPropertyValue(name).trim());
  const axis = {gridcolor: grid, linecolor: line, zerolinecolor: line, automargin: true};
  const title = value => typeof value === 'string' ? {text: value, standoff: 8} : value;
  const full = {
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', font: {color: text, family: 'inherit', size: 12},
    margin: {l: 50, r: 16, t: 12, b: 40}, hoverlabel: {bgcolor: card, font: {color: text}, bordercolor: line, namelength: -1},
    legend: {orientation: 'h', y: 1.02, yanchor: 'bottom', x: 0}, modebar: {color: line, activecolor: text, bgcolor: 'rgba(0,0,0,0)'}, ...own,
  };
  for (const name of ['xaxis', 'yaxis']) full[name] = {...axis, ...own[name], title: title(own[name]?.title)};
  return full;
}
const drawn = new Map();
function draw(node, figure) {
  drawn.set(node, figure);
  return Plotly.react(node, figure.data, merged(figure.layout), CONFIG);
}
function repaint(printing) {
  for (const [node, figure] of drawn) if (node.isConnected) Plotly.react(node, figure.data, merged(figure.layout, printing), CONFIG);
}
addEventListener('beforeprint', () => repaint(true));
addEventListener('afterprint', () => repaint(false));
dark.addEventListener('change', () => repaint(false));

// Curves
const hidden = new Set();
function metricNames(curves) {
  const names = {validation: new Set(), training: new Set()};
  for (const run of curves.runs) for (const part of ['validation', 'training']) for (const name of Object.keys(run[part]?.values ?? {})) names[part].add(name);
  return names;
}
function fillMetrics() {
  const select = byId('metric'), chosen = select.value, groups = [];
  const names = metricNames(data.curves);
  for (const part of ['validation', 'training']) {
    const options = [...names[part]].map(name => element('option', {value: `${part}:${name}`, textContent: data.curves.titles[name]}));
    if (options.length) groups.push(element('optgroup', {label: part}, ...options));
  }
  select.replaceChildren(...groups);
  // The first one that shows something: two values or more.
  const moves = value => {
    const [part, name] = value.split(/:(.*)/s);
    return data.curves.runs.some(run => new Set((run[part]?.values[name] ?? []).filter(each => each !== null)).size > 1);
  };
  const known = [...select.options].map(option => option.value);
  const summaries = known.filter(value => value.startsWith('validation:metrics_summary/'));
  const wanted = [`validation:${data.monitor}`, ...summaries, 'training:loss', ...known].filter(value => known.includes(value));
  select.value = known.includes(chosen) ? chosen : wanted.find(moves) ?? wanted[0] ?? '';
}
const rgba = (hex, alpha) => `rgba(${[1, 3, 5].map(place => parseInt(hex.slice(place, place + 2), 16)).join(',')},${alpha})`;
function pointsOf(run, part, name, axis) {
  const series = run[part], values = series?.values[name], places = series?.[axis];
  if (!values || !places) return [];
  return values.map((value, index) => [series.iter[index], places[index], value]).filter(point => point[2] !== null && point[1] !== null);
}
function curveTraces(part, name, axis, single) {
  const traces = [];
  data.curves.groups.forEach((group, place) => {
    if (hidden.has(group)) return;
    const colour = data.colours[place];
    const runs = data.curves.runs.filter(run => run.group === place).map(run => [run.seed, pointsOf(run, part, name, axis)]).filter(([, points]) => points.length);
    const mode = points => points.length > 60 ? 'lines' : 'lines+markers';
    const look = {line: {color: colour, width: 2}, marker: {size: 5}, legendgroup: group, showlegend: false, hovertemplate: '%{y:.5g} at %{x:.5g}'};
    if (single || runs.length < 2) {
      for (const [seed, points] of runs) {
        const label = runs.length > 1 ? `${group}, seed ${seed}` : group;
        traces.push({type: 'scatter', mode: mode(points), name: label, x: points.map(p => p[1]), y: points.map(p => p[2]), ...look});
      }
      return;
    }
    const at = new Map();
    for (const [, points] of runs) for (const point of points) at.set(point[0], [...(at.get(point[0]) ?? []), point]);
    const shared = [...at.values()].filter(points => points.length === runs.length);
    const x = shared.map(points => points.reduce((sum, p) => sum + p[1], 0) / points.length);
    const pick = choose => shared.map(points => choose(...points.map(p => p[2])));
    const edge = {type: 'scatter', mode: 'lines', x, line: {width: 0, color: colour}, hoverinfo: 'skip', showlegend: false};
    traces.push({...edge, y: pick(Math.min)}, {...edge, y: pick(Math.max), fill: 'tonexty', fillcolor: rgba(colour, .2)});
    traces.push({type: 'scatter', mode: mode(shared), name: `${group} (${runs.length} seeds)`, x, y: shared.map(points => points.reduce((sum, p) => sum + p[2], 0) / points.length), ...look});
  });
  return traces;
}
const AXES = {iter: 'iteration', epoch: 'epoch', hours: 'hours'};
function showCurves() {
  const [part, name] = byId('metric').value.split(/:(.*)/s), axis = byId('axis').value;
  const node = byId('curve-chart').querySelector('.plot');
  const zoom = `${name}|${axis}|${byId('log').checked}`;
  const layout = {uirevision: zoom, xaxis: {title: AXES[axis]}, yaxis: {title: data.curves.titles[name], type: byId('log').checked ? 'log' : 'linear'}, hovermode: 'closest'};
  return draw(node, {data: curveTraces(part, name, axis, byId('seeds').checked), layout});
}
function fillLegend() {
  byId('legend').replaceChildren(...data.curves.groups.map((group, place) => {
    const button = element('button', {type: 'button', 'aria-pressed': String(!hidden.has(group))}, element('span', {className: 'swatch', style: `background: ${data.colours[place]}`}), group);
    button.addEventListener('click', () => {
      if (!hidden.delete(group)) hidden.add(group);
      button.setAttribute('aria-pressed', String(!hidden.has(group)));
      showCurves();
    });
    return button;
  }));
}
function startCurves() {
  fillMetrics();
  fillLegend();
  byId('curve-chart').addEventListener('change', showCurves);
  byId('reset').addEventListener('click', () => Plotly.relayout(byId('curve-chart').querySelector('.plot'), {'xaxis.autorange': true, 'yaxis.autorange': true}));
  return showCurves();
}

// Gallery
function fillLayers(select, chosen) {
  const groups = new Map();
  for (const layer of data.gallery.layers) {
    const heading = layer.group ?? 'data';
    if (!groups.has(heading)) groups.set(heading, element('optgroup', {label: heading}));
    groups.get(heading).append(element('option', {value: layer.id, textContent: layer.title}));
  }
  select.replaceChildren(...groups.values());
  select.value = chosen;
}
function legendOf(layer) {
  const legend = data.gallery.legends[layer.label];
  if (!legend || !(legend.entries.length || legend.bar || legend.note)) return null;
  const parts = [];
  if (legend.entries.length) {
    parts.push(element('div', {className: 'keys'}, ...legend.entries.map(([name, colour]) => element('span', {}, ...(colour ? [element('span', {className: 'swatch', style: `background: ${colour}`})] : []), name))));
  }
  if (legend.bar) {
    const ticks = legend.bar.ticks.map(([place, text], index) => element('span', {style: `left: ${100 * place}%`, className: index === legend.bar.ticks.length - 1 ? 'last' : ''}, text));
    parts.push(element('div', {className: 'bar'}, legend.bar.title, element('div', {className: 'colours', style: `background: linear-gradient(to right, ${legend.bar.colours.join(', ')})`}), element('div', {className: 'ticks'}, ...ticks)));
  }
  if (legend.note) parts.push(element('p', {className: 'note'}, legend.note));
  return element('div', {}, ...parts);
}
function titleOf(layer) { return layer.group ? `${layer.title}, ${layer.group}` : layer.title; }
function showLayers() {
  const chosen = ['left', 'right'].map(side => data.gallery.layers.find(layer => layer.id === byId(`${side}-layer`).value));
  byId('examples').querySelectorAll('figure').forEach((figure, index) => {
    const example = data.gallery.examples[index];
    ['left', 'right'].forEach((side, place) => {
      const image = figure.querySelector(`img.${side}`), source = example.pictures[chosen[place].id];
      image.hidden = !source;
      if (source) { image.src = source; image.alt = `${titleOf(chosen[place])} of ${example.name}`; } else image.removeAttribute('src');
    });
    figure.querySelector('.missing').hidden = chosen.every(layer => example.pictures[layer.id]);
    figure.querySelector('figcaption').textContent = `${example.name}: ${titleOf(chosen[0])} | ${titleOf(chosen[1])}`;
  });
  const legends = new Map();
  for (const layer of chosen) { const legend = legendOf(layer); if (legend) legends.set(layer.label, legend); }
  byId('legends').replaceChildren(...legends.values());
}
function startGallery() {
  byId('examples').replaceChildren(...data.gallery.examples.map(example => {
    const range = element('input', {type: 'range', min: 0, max: 100, step: 1, value: 50, 'aria-label': `Left and right picture of ${example.name}`});
    const slider = element('div', {className: 'slider', style: `aspect-ratio: ${example.aspect}`}, element('span', {className: 'missing'}, 'not labelled'), element('img', {className: 'left'}), element('img', {className: 'right'}), element('div', {className: 'handle'}), range);
    range.addEventListener('input', () => slider.style.setProperty('--at', `${range.value}%`));
    return element('figure', {}, slider, element('figcaption'));
  }));
  const layers = data.gallery.layers, first = layers.find(layer => layer.id.endsWith('/true'));
  const best = layers.filter(layer => layer.label === first?.label && layer.group);
  fillLayers(byId('left-layer'), (first ?? layers[0]).id);
  fillLayers(byId('right-layer'), (best.find(layer => layer.group === data.best) ?? best[0] ?? layers[0]).id);
  for (const side of ['left', 'right']) byId(`${side}-layer`).addEventListener('change', showLayers);
  showLayers();
}

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'))).text();
}
async function start() {
  if (data.gallery) startGallery();
  document.body.append(element('script', {textContent: await unpack(byId('plotly').textContent)}));
  byId('plotly').remove();
  await startCurves();
  if (data.refresh) startRefreshing();
  document.documentElement.dataset.ready = 'yes';
}

// The page of running trainings
async function showState(state) {
  const table = byId('runs-table');
  const sorted = table && [...table.tHead.rows[0].cells].find(cell => cell.getAttribute('aria-sort') !== 'none');
  byId('table').innerHTML = state.table;
  byId('summary').textContent = state.summary;
  if (sorted) {
    const same = [...byId('runs-table').tHead.rows[0].cells].find(cell => cell.textContent === sorted.textContent);
    if (same) sortTable(byId('runs-table'), same.cellIndex, sorted.getAttribute('aria-sort') === 'ascending' ? 1 : -1);
  }
  byId('latest').innerHTML = state.pictures;
  data = {...data, ...state.data};
  fillMetrics();
  fillLegend();
  await showCurves();
}
// A slow answer is waited for.
let seen = '', asking = false;
async function refresh() {
  if (document.hidden || asking) return;
  asking = true;
  const status = byId('status');
  try {
    const answer = await fetch('state', {cache: 'no-store'});
    if (answer.status !== 200) throw new Error(`The server answered ${answer.status}.`);
    const text = await answer.text();
    if (text !== seen) await showState(JSON.parse(text));
    seen = text;
    status.textContent = `Up to date at ${new Date().toLocaleTimeString()}.`;
    status.classList.remove('stale');
  } catch (error) {
    status.textContent = `No answer since then: is the program still running? (${error.message})`;
    status.classList.add('stale');
  }
  asking = false;
}
function startRefreshing() {
  setInterval(refresh, 1000 * data.refresh);
  document.addEventListener('visibilitychange', refresh);
}
start();
