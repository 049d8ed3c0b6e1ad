// Playhead tracker, from playhead.src.js
(w=>{
const d=document,Z=d.currentScript,O=[],
p=Date.now,
K=()=>new Date().toISOString(),
B=n=>{try{let s=w[n];s.ph=1;return s}catch{return{}}},
c=()=>p().toString(16).padStart(12,0)+[...crypto.getRandomValues(
new Uint8Array(10))].map(b=>(b+256).toString(16).slice(1)).join(''),
l=()=>Object.keys(S).filter(k=>/^ph:/.test(k)).sort(),
z=($3,does,I)=>{for(let n in does)$3.addEventListener(n,does[n],I)},
A=n=>{clearTimeout(V);V=setTimeout(t,n)},
F=()=>E||location.pathname,
G=e=>e.target.closest?.('[data-ph],a,button'),
t=async q=>{
let Y=0,P=l().filter(k=>(Y+=S[k].length)<2e4),
i=`[${P.map(k=>S[k])}]`,
U=`${o.url}/v1/events?sent_at=${K()}${o.key?'&key='+o.key:''}`
if(!P[0])return j=0
if(q)return navigator.sendBeacon(U,i)
if(h)return
h=1
try{
let r=await fetch(U,{method:'POST',body:i,keepalive:true,
signal:AbortSignal.timeout(3e4)})
if(r.status!=202)throw r.status
P.map(k=>delete S[k])
j=0
r=await r.json()
if(r.rejected[0])console.warn('playhead:',r)
}catch(e){j++;console.warn('playhead:',e)}
h=0
A(j&&Math.random()*Math.min(6e4,500*2**j))
},
track=(g,Q)=>{
let m=c(),i=JSON.stringify({event_id:m,event_type:g,event_time:K(),
user_id:o.user,session_id:o.session,device_type:o.device,...o.fields,...Q})
if(i.length>1e4||l().length>=o.max)return console.error('playhead: full',i)
m='ph:'+m
try{S[m]=i}catch{S={...S,[m]:i}}
if(!h&&!j)A(o.wait)
},
N=()=>D=Math.max(D,Math.min(100,
100*(w.scrollY+w.innerHeight)/d.documentElement.scrollHeight)),
y=()=>o.scroll&&D>C&&track('scroll',{page:F(),
scroll_depth_percentage:C=D,dwell_time_seconds:(p()-L)/1e3}),
page=(name,Q)=>{
y()
E=name;L=p();D=C=0
N()
track('page_view',{page:F(),referrer:d.referrer.split('?')[0]||null,...Q})
},
R=(g,x,I)=>x&&track(g,{page:F(),movie_id:x.dataset.movie,
element:x.dataset.ph||x.id||x.localName,...I}),
player=(v,X,$1=10)=>{
let $=0,$0=0,$5,u,$2=new AbortController(),
J=(g,I)=>track(g,{...X,position_seconds:v.currentTime,
duration_seconds:v.duration,playback_rate:v.playbackRate,sequence:$++,...I}),
W=()=>{u&&J('stop');u=0},
_=setInterval(()=>u&&!v.paused&&J('play'),$1*1e3)
z(v,{
play(){J(u?'resume':'play');u=1},
pause(){u&&!v.ended&&J('pause')},
seeking(){$5??=$0},
seeked(){u&&J('seek',{from_position_seconds:$5});$5=null},
ended(){J('complete');u=0},
timeupdate(){v.seeking||($0=v.currentTime)}
},$2)
O.push(W)
return()=>{W();clearInterval(_);$2.abort()}
},
init=$4=>{
o||z(w,{
pagehide(){O.map(f=>f());y();t(1)},
visibilitychange(){if(d.hidden)y(),t()},
online(){j=0;A(0)},
scroll:N,
click(e){o.clicks&&R('click',G(e))},
mouseover(e){
let x=G(e),s=(p()-M)/1e3
if(!o.hover||x==H)return
if(s>=.5)R('hover',H,{dwell_time_seconds:s})
H=x;M=p()
}
},true)
o={url:Z&&new URL(Z.src).origin,wait:1e3,max:1e3,
user:S.ph_user||=c(),session:T.ph_session||=c(),
device:/Mobi/.test(navigator.userAgent)?'Mobile':'Desktop',...$4}
if(o.pages)page()
A(0)
}
let S=B('localStorage'),T=B('sessionStorage'),j=0,
o,h,V,E,L,D,C,H,M
w.playhead={init,track,page,player}
})(window)
