// Search runs in a worker, which browsers refuse to pages that are opened from disk: there, a hidden frame takes its place.
if (location.protocol === 'file:') {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement('iframe')
      frame.hidden = true
      document.body.append(frame)
      this.scope = frame.contentWindow
      this.scope.postMessage = data => this.dispatchEvent(new MessageEvent('message', { data }))
      const script = frame.contentDocument.createElement('script')
      this.loaded = new Promise(resolve => (script.onload = resolve))
      script.src = new URL(url, location)
      frame.contentDocument.body.append(script)
    }
    postMessage(data) {
      this.loaded.then(() => this.scope.dispatchEvent(new MessageEvent('message', { data })))
    }
  }
}
