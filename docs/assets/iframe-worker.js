// Search without a server: browsers refuse a Worker to pages that are opened from a file. There, and only there, a
// hidden frame takes its place: the script runs in it, and messages go to and fro as with a Worker. The scripts that a
// Worker would import for other languages than English are not needed.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inside = frame.contentWindow;
      this.inside.postMessage = (data) => {
        this.dispatchEvent(new MessageEvent("message", { data }));
      };
      this.ready = new Promise((resolve) => {
        const element = frame.contentDocument.createElement("script");
        element.src = script;
        element.onload = resolve;
        frame.contentDocument.body.append(element);
      });
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.inside.frameElement.remove();
    }
  };
}
