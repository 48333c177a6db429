// Who is here: names and colours from awareness. What others put there is not trusted to be well formed.

const colours = ['#b3366b', '#8447c7', '#4656c8', '#176fb0', '#0d766e', '#2e7a3a', '#8a6100', '#b4500f', '#b8352f', '#6b5a50']
const manners = ['Amber', 'Brisk', 'Calm', 'Clever', 'Gentle', 'Merry', 'Quiet', 'Rosy', 'Swift', 'Witty']
const animals = ['Badger', 'Crane', 'Finch', 'Hare', 'Heron', 'Lynx', 'Marten', 'Otter', 'Robin', 'Wren']

const SHOWN_MAX = 30
const NAME_MAX = 40

const pick = (list, number) => list[number % list.length]

export const colourOf = (clientId) => pick(colours, clientId)
export const nameOf = (clientId) => `${pick(manners, Math.floor(clientId / 7))} ${pick(animals, Math.floor(clientId / 101))}`

const text = (value, otherwise) => typeof value === 'string' && value.trim() !== '' ? value.trim().slice(0, NAME_MAX) : otherwise
const colour = (value, otherwise) => typeof value === 'string' && /^#[0-9a-f]{6}$/i.test(value) ? value : otherwise

const initials = (name) => name.split(/\s+/).slice(0, 2).map((word) => [...word][0]).join('').toUpperCase()

/** Everybody who shows a user, oneself first. */
export const people = (awareness) => [...awareness.getStates()]
  .filter(([, state]) => typeof state?.user === 'object' && state.user !== null)
  .map(([clientId, { user }]) => ({
    clientId,
    name: text(user.name, nameOf(clientId)),
    colour: colour(user.color, colourOf(clientId)),
    isSelf: clientId === awareness.clientID
  }))
  .sort((a, b) => b.isSelf - a.isSelf || a.name.localeCompare(b.name) || a.clientId - b.clientId)

const element = (name, className, content = '') => {
  const node = document.createElement(name)
  node.className = className
  node.textContent = content
  return node
}

const person = ({ name, colour, isSelf }) => {
  const item = element('li', 'person')
  const face = element('span', 'face', initials(name))
  face.style.background = colour
  face.setAttribute('aria-hidden', 'true')
  const who = element('span', 'who', name)
  who.title = name
  item.append(face, who)
  if (isSelf) item.append(element('span', 'you', 'you'))
  return item
}

/** Keeps the list and the number of people up to date. */
export const show = (awareness, list, count) => {
  const render = () => {
    const all = people(awareness)
    const items = all.slice(0, SHOWN_MAX).map(person)
    if (all.length > SHOWN_MAX) items.push(element('li', 'you', `and ${all.length - SHOWN_MAX} more`))
    list.replaceChildren(...items)
    count.textContent = String(all.length)
  }
  awareness.on('change', render)
  render()
}
